# frozen_string_literal: true

module TaskerCore
  module Testing
    # That a task is in a state. A matcher of RSpec; {Assertions} ask it too.
    class TaskExpectation
      include RSpec::Matchers::Composable if defined?(RSpec::Matchers::Composable)

      # What a task of several steps comes to, in a line for each step.
      # @param task [Task]
      # @return [String]
      def self.outline(task)
        lines = task.steps.map do |step|
          error = step.error && ": #{step.error['class']}: #{step.error['message']}"
          "  #{step.name} #{step.state} (attempts: #{step.attempts})#{error}"
        end
        "task #{task.id} is #{task.state}:\n#{lines.join("\n")}"
      end

      # @param state [String]
      def initialize(state)
        @state = state
      end

      # @param task [Task]
      def matches?(task)
        @task = task
        task.state == @state
      end

      def description = "be a task in the state #{@state}"

      def failure_message = "expected a task in the state #{@state}, but #{self.class.outline(@task)}"

      def failure_message_when_negated = "expected a task in another state than #{@state}, but #{self.class.outline(@task)}"
    end
  end
end
