# frozen_string_literal: true

module TaskerCore
  # A step's code as a class. Each attempt gets a new object. A handler must be idempotent: an earlier attempt may have
  # done all of the work, or a part of it.
  #
  # @abstract
  class StepHandler
    extend Events::Declarations

    # @param context [StepContext]
    # @return [Hash, nil] the step's result, for later steps
    # @raise [RetryableError] to retry the step, after `retry_after:` seconds if given
    # @raise [PermanentError] to fail the step at once
    # @raise [StandardError] any other error is retried, unless it certainly is a mistake in the code, as a SyntaxError
    def call(context)
      raise PermanentError.new("#{self.class.name} does not define #call(context)", code: "handler_without_call")
    end
  end
end
