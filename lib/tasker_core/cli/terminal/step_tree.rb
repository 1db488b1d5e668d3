# frozen_string_literal: true

module TaskerCore
  class CLI
    # @api private
    class Terminal
      # Draws the steps of a running task: in place on a terminal, elsewhere one line for each change of state.
      class StepTree
        include Support::MonotonicClock

        INTERVAL = 0.05

        def initialize(task, out)
          @task = task
          @out = out
          @terminal = Terminal.new(out)
          @shown = {}
          @lines = 0
          @drawn_at = 0
        end

        def draw
          return if now - @drawn_at < INTERVAL && !@task.ended?

          @drawn_at = now
          @out.tty? ? redraw : print_changes
        end

        private

        def redraw
          lines = nodes.map { |node| @terminal.node(node) } << "task #{@task.id}: #{@task.state}"
          @out.print "\e[#{@lines}A" if @lines.positive?
          lines.each { |text| @out.puts "\e[2K#{text}" }
          @lines = lines.size
        end

        def print_changes
          nodes.each do |node|
            next if @shown[node.name] == [node.state, node.attempts]

            @shown[node.name] = [node.state, node.attempts]
            @out.puts @terminal.node(node) unless node.state == "pending"
          end
          @out.puts "task #{@task.id}: #{@task.state}" if @task.ended?
        end

        def nodes = TaskerCore::Graph.of_task(@task).nodes
      end
    end
  end
end
