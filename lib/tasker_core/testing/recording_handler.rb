# frozen_string_literal: true

module TaskerCore
  module Testing
    # A handler that keeps what it raised; found under any name.
    class RecordingHandler
      # What is raised to end the test, and not the attempt: a failed expectation, an interrupt.
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

      def find(_name) = self

      def call(context)
        @handler.call(context)
      rescue Exception => e # rubocop:disable Lint/RescueException -- StepRunner makes an outcome of it
        @raised = e
        raise
      end

      # @return [Boolean] whether what it raised is meant for the test
      def ends_test? = !@raised.nil? && @raised.class.ancestors.any? { |type| FOR_THE_TEST.include?(type.name) }
    end
  end
end
