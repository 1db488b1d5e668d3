# frozen_string_literal: true

module TaskerCore
  class CLI
    # The command of an {Operations::Action}, such as `tasker retry`: it takes a reason, records the actor, and prints
    # what has changed and what the task waits for. Where tasks and steps have an action of one name, the command takes
    # either.
    #
    # @api private
    class ActionCommand < Command
      include Application

      MOST_LINES = 20
      private_constant :MOST_LINES

      class << self
        # @param actions [Array<Operations::Action>] of one name
        # @return [Class<ActionCommand>]
        def of(actions) = Class.new(self) { @actions = actions.index_by(&:subject) }

        # @return [Hash{Symbol => Operations::Action}] by subject
        attr_reader :actions

        def outlasts_reader? = true

        def word = actions.values.first.name.to_s

        def arguments
          return %w[TASK] unless actions.key?(:step)

          actions.key?(:task) ? %w[TASK [STEP]] : %w[TASK STEP]
        end

        def result? = actions.values.any?(&:result?)

        # @return [String] for the list of commands
        def summary = actions.values.reverse.map { |action| action.effect.sub(/\A./, &:downcase) }.join("; ")
      end

      private

      def options(parser)
        parser.on("--reason TEXT", "reason to record with the action (required)") { @reason = _1 }
        parser.on("--by NAME", "actor to record with the action (default: #{operator})") { @by = _1 }
        if self.class.result?
          parser.on("--result JSON", "result of the step, an object (required)") { @result = object("--result", _1) }
        end
        super
      end

      def verify(values)
        super
        raise UsageError, "#{word}: --reason is missing: --reason TEXT is recorded with the action" if @reason.blank?
        raise UsageError, "#{word}: --result is missing: --result JSON" if self.class.result? && @result.nil?
      end

      def perform(name, step_name = nil)
        task = Task.lookup(name)
        before = states(task)
        record = step_name ? task.step(step_name) : task
        action = self.class.actions.fetch(step_name ? :step : :task)
        action.perform(record, reason: @reason, by: @by || operator, result: @result)
        task.reload
        changed = changes(before, states(task))
        print(task, step_name, action, changed)
        0
      end

      # Of the task by nil, of each step by its name.
      def states(task)
        { nil => task.state, **TaskerCore::Graph.of_task(task).nodes.to_h { |node| [node.name, node.state] } }
      end

      def changes(before, after)
        before.keys.reject { |step| before[step] == after[step] }.map do |step|
          { step: step, from: before[step], to: after[step] }
        end
      end

      def print(task, step_name, action, changed)
        return print_json(task: HTTP::Serializer.task(task), changed: changed) if @json

        @out.puts "#{subject(task, step_name)}: #{action.past}" if changed.empty?
        changed.first(MOST_LINES).each do |change|
          @out.puts "#{subject(task, change[:step])}: #{change[:from]} → #{terminal.paint_state(change[:to])}"
        end
        @out.puts "and #{counted(changed.size - MOST_LINES, 'more step')}" if changed.size > MOST_LINES
        @out.puts Support::VisibleText.line(Diagnosis.new(task).summary)
      end

      def subject(task, step_name) = Support::VisibleText.line(step_name || "task #{task.id}")
    end
  end
end
