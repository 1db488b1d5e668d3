# frozen_string_literal: true

module TaskerCore
  # Publishes what happens in the process to `ActiveSupport::Notifications`, as `NAME.tasker_core`. A subscriber's error
  # does not affect the instrumented code: it is printed to the standard error.
  #
  # @api private
  module Instrumentation
    module_function

    # @param name [String] a verb and its object: perform_step
    # @param payload [Hash]
    # @yieldparam payload [Hash] for the block to add its outcome
    # @return [Object] what the block returns
    def instrument(name, payload = {})
      ran = result = raised = nil
      ActiveSupport::Notifications.instrument("#{name}.tasker_core", payload) do
        ran = true
        result = yield payload if block_given?
      rescue StandardError => e
        raise(raised = e)
      end
      result
    rescue StandardError => e
      raise if raised.equal?(e)

      Support::SafeOutput.line("tasker_core: a subscriber of #{name}.tasker_core raised #{e.class}: #{e.message}")
      raise raised if raised

      ran || !block_given? ? result : yield(payload)
    end
  end
end
