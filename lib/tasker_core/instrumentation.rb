# frozen_string_literal: true

module TaskerCore
  # Tells subscribers of `ActiveSupport::Notifications` what happens, as `NAME.tasker_core`. A subscriber that raises
  # changes nothing about what happened: that it raised is written to the standard error.
  #
  # @api private
  module Instrumentation
    module_function

    # @param name [String] a verb and its object: perform_step
    # @yieldparam payload [Hash] to which the block may add what it came to
    # @return [Object] what the block answers
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
