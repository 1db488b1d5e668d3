# frozen_string_literal: true

module TaskerCore
  # What a step does, as a class. A handler is made anew for each attempt; it must not matter whether an attempt
  # before it got to its end or not.
  #
  # @abstract
  class StepHandler
    extend Events::Declarations

    # @param context [StepContext]
    # @return [Hash, nil] the step's result, seen by the steps after it
    # @raise [RetryableError] to be tried again, after `retry_after:` seconds if given
    # @raise [PermanentError] to end the step at once
    # @raise [StandardError] anything else counts as retryable
    def call(context)
      raise PermanentError.new("#{self.class.name} does not define #call(context)", code: "handler_without_call")
    end
  end
end
