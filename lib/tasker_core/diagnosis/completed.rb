# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A task in which all is done.
    class Completed < Explanation
      def kind = "complete"

      def headline = "it took #{span(seconds)}#{", of which #{slowest['name']} took #{span(slowest['seconds'])}" if slowest}"

      private

      def seconds = @reading.task["ended_at"] - @reading.task["created_at"]

      def slowest = @slowest ||= @reading.slowest

      def facts
        { created_at: @reading.task["created_at"], ended_at: @reading.task["ended_at"], seconds: seconds,
          slowest_step: slowest&.fetch("name"), slowest_seconds: slowest&.fetch("seconds") }
      end
    end
  end
end
