# frozen_string_literal: true

module TaskerCore
  module Testing
    # Expects a task in a state: an RSpec matcher, which {Assertions} use, too.
    class TaskExpectation
      include RSpec::Matchers::Composable if defined?(RSpec::Matchers::Composable)

      # Describes a task, with a line for each step.
      # @api private
      # @param task [Task]
      # @return [String]
      def self.outline(task)
        lines = task.steps.map do |step|
          error = step.error && ": #{step.error['class']}: #{step.error['message']}"
          "  #{step.name} #{step.state} (attempts: #{step.attempts})#{error}"
        end
        "task #{task.id} is #{task.state}:\n#{lines.join("\n")}"
      end

      # @api private see {Matchers}
      # @param state [String]
      def initialize(state)
        @state = state
      end

      # @param task [Task]
      # @return [Boolean]
      def matches?(task)
        @task = task
        task.state == @state
      end

      def description = "be a task in the state #{@state}"

      def failure_message = "expected a task in the state #{@state}, but #{self.class.outline(@task)}"

      def failure_message_when_negated
        "expected a task in another state than #{@state}, but #{self.class.outline(@task)}"
      end
    end
  end
end
