# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A task in which all is done.
    class Completed < Explanation
      def kind = "complete"

      def headline
        "it ended #{span(seconds)} after its creation, waits included; its attempts ran for #{span(running)}" \
          "#{" together, #{slowest['name']} for #{span(slowest['seconds'])}" if slowest}"
      end

      private

      def seconds = @reading.task["ended_at"] - @reading.task["created_at"]

      def running = @reading.task["running_seconds"]

      def slowest = @slowest ||= @reading.slowest

      def facts
        { created_at: @reading.task["created_at"], ended_at: @reading.task["ended_at"],
          seconds: seconds, running_seconds: running,
          slowest_step: slowest&.fetch("name"), slowest_seconds: slowest&.fetch("seconds") }
      end
    end
  end
end
