# frozen_string_literal: true

module TaskerCore
  module Testing
    # For Minitest.
    module Assertions
      # @param task [Task]
      # @param step [Symbol, String]
      # @param result [Hash, nil] its whole result; nil: any
      def assert_step_completed(task, step, result: nil)
        expectation = Matchers.have_completed_step(step)
        expectation.with_result(result) if result
        assert_tasker(task, expectation)
      end

      # That a step failed for good.
      # @param error [Class, Regexp, String, nil] its class, or what its message has in it; nil: any
      # @param code [String, nil] of a {PermanentError}; nil: any
      def assert_step_failed(task, step, error: nil, code: nil)
        assert_tasker(task, tasker_failure(Matchers.have_failed_step(step), error, code))
      end

      # That a step waits for its next attempt, or for its time.
      def assert_step_waiting(task, step, error: nil)
        assert_tasker(task, tasker_failure(Matchers.have_waiting_step(step), error))
      end

      # That all steps are done.
      def assert_task_completed(task) = assert_tasker(task, Matchers.have_completed)

      # That a step failed for good, and nothing can run any more.
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
