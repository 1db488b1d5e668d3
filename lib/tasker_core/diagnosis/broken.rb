# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A task that has not ended, although none of its steps is active.
    #
    # @api private
    class Broken < Explanation
      def kind = "broken"

      def headline = "none of its steps has failed, runs, is ready or waits, so nothing will start the remaining ones"

      private

      def details = ["this is a fault of tasker_core, or of another program that changed its tables"]

      def remedy = "`tasker audit` explains it, and `tasker audit --repair` repairs it"
    end
  end
end
