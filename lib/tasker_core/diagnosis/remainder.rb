# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # Further steps in the same state as the last one explained.
    #
    # @api private
    class Remainder < Explanation
      # @param last [StepExplanation]
      # @param count [Integer] of further steps
      def initialize(last, count, snapshot)
        super(snapshot)
        @last = last
        @count = count
      end

      def kind = @last.kind

      def headline
        "#{counted(@count, 'more step')} #{@count == 1 ? 'is' : 'are'} like #{@last.reason.step}: #{KINDS.fetch(kind)}"
      end

      private

      def facts = { count: @count }
    end
  end
end
