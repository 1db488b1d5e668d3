# frozen_string_literal: true

module TaskerCore
  module Testing
    # Expects a step of a task in a state, with a result or an error: an RSpec matcher, which {Assertions} use, too.
    class StepExpectation
      include RSpec::Matchers::Composable if defined?(RSpec::Matchers::Composable)

      # @api private see {Matchers}
      # @param step [Symbol, String]
      # @param state [String]
      def initialize(step, state)
        @step = step
        @state = state
        @conditions = {}
      end

      # @param result [Hash, #===] the whole result, whose keys may be symbols; or a matcher
      # @return [self]
      def with_result(result) = condition("result", plain(result), &:result)

      # @param error [Class, Regexp, String] its class, or a part of its message
      # @return [self]
      def with_error(error)
        return condition("error", error.name) { |step| step.error&.fetch("class") } if error.is_a?(Module)

        pattern = error.is_a?(String) ? /#{Regexp.escape(error)}/ : error
        condition("error", pattern) { |step| step.error&.fetch("message") }
      end

      # @param code [String] of a {PermanentError}
      # @return [self]
      def with_code(code) = condition("code", code) { |step| step.error&.fetch("code", nil) }

      # @param attempts [Integer] number of attempts so far
      # @return [self]
      def after_attempts(attempts) = condition("attempts", attempts, &:attempts)

      # @param task [Task]
      # @return [Boolean]
      # @raise [UnknownStepError] when the task has no such step
      def matches?(task)
        @task = task
        step = task.step(@step)
        step.state == @state && @conditions.each_value.all? { |expected, value| [value.call(step)].all?(expected) }
      end

      def description = ["have the step #{@step} in the state #{@state}", *conditions].join(", ")

      def failure_message = "expected a task to #{description}, but #{actual}"

      def failure_message_when_negated = "expected a task not to #{description}, but #{actual}"

      private

      def condition(name, expected, &value)
        @conditions[name] = [expected, value]
        self
      end

      def plain(result) = result.is_a?(Hash) ? Support::JsonValue.of(result) : result

      def conditions = @conditions.map { |name, (expected, _)| "with #{name} #{described(expected)}" }

      def actual
        step = @task.step(@step)
        values = @conditions.map { |name, (_, value)| "#{name} #{value.call(step).inspect}" }
        [TaskExpectation.outline(@task), *(["#{@step} has #{values.join(', ')}"] if values.any?)].join("\n")
      end

      def described(expected) = expected.respond_to?(:description) ? expected.description : expected.inspect
    end
  end
end
