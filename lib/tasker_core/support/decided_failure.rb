# frozen_string_literal: true

module TaskerCore
  module Support
    # A failed attempt of which other code has decided whether the step is retried. The attempt's error is the original
    # exception.
    #
    # @api private
    class DecidedFailure < StandardError
      # @return [Exception]
      attr_reader :error
      # @return [Boolean]
      attr_reader :retryable
      # @return [Float, nil] seconds; nil leaves the delay to the step's policy
      attr_reader :retry_after
      # @return [String, nil] a word for programs, stored with the step's error
      attr_reader :code

      # @param exception [Exception]
      # @return [Exception] the original one
      def self.original(exception) = exception.is_a?(self) ? exception.error : exception

      def initialize(error, retryable:, retry_after: nil, code: nil)
        super(error.message)
        @error = error
        @retryable = retryable
        @retry_after = retry_after
        @code = code
      end
    end
  end
end
