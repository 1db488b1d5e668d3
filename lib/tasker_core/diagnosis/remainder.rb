# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # Further steps that stand as the last one told of does.
    #
    # @api private
    class Remainder < Explanation
      # @param last [StepExplanation]
      # @param count [Integer] how many more there are
      def initialize(last, count, snapshot)
        super(snapshot)
        @last = last
        @count = count
      end

      def kind = @last.kind

      def headline
        steps = "#{counted(@count, 'further step')} #{@count == 1 ? 'stands' : 'stand'}"
        "#{steps} as #{@last.reason.step} does: #{KINDS.fetch(kind)}"
      end

      private

      def facts = { count: @count }
    end
  end
end
