# frozen_string_literal: true

module TaskerCore
  module Testing
    # Wraps a handler and keeps the exception that it raises. It is its own registry, with this handler under every
    # name.
    #
    # @api private
    class RecordingHandler
      # Exceptions that end the test, not the attempt: a failed expectation, an interrupt.
      FOR_THE_TEST = %w[SignalException Minitest::Assertion RSpec::Expectations::ExpectationNotMetError
                        RSpec::Expectations::MultipleExpectationsNotMetError RSpec::Mocks::MockExpectationError
                        RSpec::Core::Pending::SkipDeclaredInExample].freeze
      private_constant :FOR_THE_TEST

      # @return [Exception, nil]
      attr_reader :raised

      # @param handler [#call]
      def initialize(handler)
        @handler = handler
      end

      # @return [self]
      def find(_name) = self

      def call(context)
        @handler.call(context)
      rescue Exception => e # rubocop:disable Lint/RescueException -- StepRunner converts it to an outcome
        @raised = Support::DecidedFailure.original(e)
        raise
      end

      # @return [Boolean] whether the exception ends the test
      def ends_test? = !@raised.nil? && @raised.class.ancestors.any? { |type| FOR_THE_TEST.include?(type.name) }
    end
  end
end
