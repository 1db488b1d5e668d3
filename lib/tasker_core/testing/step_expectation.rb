# frozen_string_literal: true

module TaskerCore
  module Testing
    # That a step of a task is in a state, with a result or an error. A matcher of RSpec; {Assertions} ask it too.
    class StepExpectation
      include RSpec::Matchers::Composable if defined?(RSpec::Matchers::Composable)

      # @param step [Symbol, String]
      # @param state [String]
      def initialize(step, state)
        @step = step
        @state = state
        @wishes = {}
      end

      # @param result [Hash, #===] the whole result, or a matcher; keys may be symbols
      # @return [self]
      def with_result(result) = wish("result", plain(result), &:result)

      # @param error [Class, Regexp, String] the class, or what the message has in it
      # @return [self]
      def with_error(error)
        return wish("error", error.name) { |step| step.error&.fetch("class") } if error.is_a?(Module)

        pattern = error.is_a?(String) ? /#{Regexp.escape(error)}/ : error
        wish("error", pattern) { |step| step.error&.fetch("message") }
      end

      # @param code [String] of a {PermanentError}
      # @return [self]
      def with_code(code) = wish("code", code) { |step| step.error&.fetch("code", nil) }

      # @param attempts [Integer] executions so far
      # @return [self]
      def after_attempts(attempts) = wish("attempts", attempts, &:attempts)

      # @param task [Task]
      # @raise [UnknownStepError] when the task has no such step
      def matches?(task)
        @task = task
        step = task.step(@step)
        step.state == @state && @wishes.all? { |_, (wanted, value)| wanted === value.call(step) } # rubocop:disable Style/CaseEquality
      end

      def description = ["have the step #{@step} in the state #{@state}", *wished].join(", ")

      def failure_message = "expected a task to #{description}, but #{told}"

      def failure_message_when_negated = "expected a task not to #{description}, but #{told}"

      private

      def wish(name, wanted, &value)
        @wishes[name] = [wanted, value]
        self
      end

      def plain(result) = result.is_a?(Hash) ? Plain.of(result) : result

      def wished = @wishes.map { |name, (wanted, _)| "with #{name} #{shown(wanted)}" }

      def told
        step = @task.step(@step)
        values = @wishes.map { |name, (_, value)| "#{name} #{value.call(step).inspect}" }
        [TaskExpectation.outline(@task), *(["#{@step} has #{values.join(', ')}"] if values.any?)].join("\n")
      end

      def shown(wanted) = wanted.respond_to?(:description) ? wanted.description : wanted.inspect
    end
  end
end
