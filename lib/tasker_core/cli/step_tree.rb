# frozen_string_literal: true

module TaskerCore
  class CLI
    # The steps of a running task: redrawn in place on a terminal, elsewhere a line for each change of state.
    class StepTree
      MARKS = { "complete" => "✔", "error" => "✘", "in_progress" => "▶", "waiting" => "…", "ready" => "•",
                "cancelled" => "✘", "resolved_manually" => "✔" }.freeze
      INTERVAL = 0.05

      def initialize(task, out)
        @task = task
        @out = out
        @shown = {}
        @lines = 0
        @drawn_at = 0
      end

      def draw
        return if now - @drawn_at < INTERVAL && !@task.ended?

        @drawn_at = now
        @out.tty? ? redraw : tell
      end

      private

      def redraw
        lines = @task.steps.map { |step| line(step) } << "task #{@task.id}: #{@task.state}"
        @out.print "\e[#{@lines}A" if @lines.positive?
        lines.each { |text| @out.puts "\e[2K#{text}" }
        @lines = lines.size
      end

      def tell
        @task.steps.each do |step|
          next if @shown[step.position] == [step.state, step.attempts]

          @shown[step.position] = [step.state, step.attempts]
          @out.puts line(step) unless step.state == "pending"
        end
        @out.puts "task #{@task.id}: #{@task.state}" if @task.ended?
      end

      def line(step)
        parents = step.dependencies.map { |position| names[position] }
        after = " ← #{parents.join(', ')}" if parents.any?
        failed = ": #{step.error['message']}" if step.error && step.state != "complete"
        tries = ", attempt #{step.attempts}" if step.attempts > 1
        "#{'  ' * levels.fetch(step.name)}#{MARKS.fetch(step.state, '·')} #{step.name}#{after} (#{step.state}#{tries})#{failed}"
      end

      def names = @names ||= @task.steps.to_h { |step| [step.position, step.name] }

      def levels
        @levels ||= @task.steps.each_with_object({}) do |step, levels|
          parents = step.dependencies.map { |position| levels[names[position]] }
          levels[step.name] = (parents.max || -1) + 1
        end
      end

      def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
