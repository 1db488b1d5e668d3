# frozen_string_literal: true

module TaskerCore
  class CLI
    # What the operator's verbs have in common: each is told why, is recorded with who, and prints what has changed and what
    # comes next. A verb says in {#change} what it does.
    #
    # @api private
    class ActionCommand < Command
      include Application

      def self.outlasts_reader? = true

      MOST_LINES = 20
      private_constant :MOST_LINES

      private

      attr_reader :reason

      def options(parser)
        parser.on("--reason TEXT", "why, for those who look at the task later; must be there") { @reason = _1 }
        parser.on("--by NAME", "who does it (default: #{operator})") { @by = _1 }
        super
      end

      def verify(values)
        super
        return unless reason.to_s.strip.empty?

        raise UsageError, "#{word}: --reason is missing: tell why, for those who look at the task later: --reason TEXT"
      end

      def by = @by || operator

      def perform(name, step_name = nil)
        task = Task.lookup(name)
        step = step_name && task.step(step_name)
        before = states(task)
        message = change(task, step)
        task.reload
        changed = changes(before, states(task))
        @json ? print_json(task: HTTP::Serializer.task(task), changed: changed) : print_text(task, message, changed)
        0
      end

      # @param task [Task]
      # @param step [WorkflowStep, nil]
      # @return [String, Object] a sentence where the states do not tell it all
      def change(task, step) = raise(NotImplementedError)

      # Of the task by nil, of each step by its name.
      def states(task) = { nil => task.state, **TaskerCore::Graph.of_task(task).nodes.to_h { |node| [node.name, node.state] } }

      def changes(before, after)
        before.keys.reject { |step| before[step] == after[step] }.map do |step|
          { step: step, from: before[step], to: after[step] }
        end
      end

      def print_text(task, message, changed)
        @out.puts Support::VisibleText.lines(message) if message.is_a?(String)
        changed.first(MOST_LINES).each do |change|
          subject = Support::VisibleText.line(change[:step] || "task #{task.id}")
          @out.puts "#{subject}: #{change[:from]} → #{terminal.paint_state(change[:to])}"
        end
        @out.puts "and #{counted(changed.size - MOST_LINES, 'more step')}" if changed.size > MOST_LINES
        @out.puts Support::VisibleText.line(Diagnosis.new(task).summary)
      end
    end
  end
end
