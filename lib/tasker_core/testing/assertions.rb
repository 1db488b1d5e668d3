# frozen_string_literal: true

module TaskerCore
  module Testing
    # Assertions for Minitest. They fail like `assert`, with a message that shows the task's steps.
    module Assertions
      # Asserts that a step is complete.
      # @param task [Task]
      # @param step [Symbol, String]
      # @param result [Hash, nil] the whole result; nil: any
      def assert_step_completed(task, step, result: nil)
        expectation = Matchers.have_completed_step(step)
        expectation.with_result(result) if result
        assert_tasker(task, expectation)
      end

      # Asserts that a step has failed permanently.
      # @param task [Task]
      # @param step [Symbol, String]
      # @param error [Class, Regexp, String, nil] its class, or a part of its message; nil: any
      # @param code [String, nil] of a {PermanentError}; nil: any
      def assert_step_failed(task, step, error: nil, code: nil)
        assert_tasker(task, tasker_failure(Matchers.have_failed_step(step), error, code))
      end

      # Asserts that a step waits for its next attempt, or for its time.
      # @param task [Task]
      # @param step [Symbol, String]
      # @param error [Class, Regexp, String, nil] of its last attempt, see {#assert_step_failed}
      def assert_step_waiting(task, step, error: nil)
        assert_tasker(task, tasker_failure(Matchers.have_waiting_step(step), error))
      end

      # Asserts that all steps of a task are complete.
      # @param task [Task]
      def assert_task_completed(task) = assert_tasker(task, Matchers.have_completed)

      # Asserts that a task has failed: a step failed permanently, and no step can run any more.
      # @param task [Task]
      def assert_task_failed(task) = assert_tasker(task, Matchers.have_failed)

      private

      def tasker_failure(expectation, error, code = nil)
        expectation.with_error(error) if error
        expectation.with_code(code) if code
        expectation
      end

      def assert_tasker(task, expectation)
        assert expectation.matches?(task), -> { expectation.failure_message }
      end
    end
  end
end
