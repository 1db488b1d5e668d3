# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A task that has not ended as its steps say, and in which nothing goes on.
    #
    # @api private
    class Broken < Explanation
      def kind = "broken"

      def headline = "none of its steps has failed, runs, is ready or waits, so that nothing will start the others"

      private

      def details = ["that is a fault of tasker_core, or of somebody who wrote into its tables"]

      def remedy = "`tasker audit` explains it, and `tasker audit --repair` puts it right"
    end
  end
end
