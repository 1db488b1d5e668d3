# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A task that has not ended, although none of its steps is active.
    #
    # @api private
    class Broken < Explanation
      def kind = "broken"

      def headline = "none of its steps is ready, running, waiting or failed, so the remaining ones will never start"

      private

      def details = ["this is a bug in tasker_core, or another program has changed its tables"]

      def remedy = "`tasker audit` explains it, and `tasker audit --repair` repairs it"
    end
  end
end
