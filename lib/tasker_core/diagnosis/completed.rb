# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A task whose steps are all done.
    #
    # @api private
    class Completed < Explanation
      def kind = "complete"

      def headline
        "it took #{span(seconds)} including waits; its attempts ran for #{span(running)}" \
          "#{" in total, the slowest (#{slowest['name']}) for #{span(slowest['seconds'])}" if slowest}"
      end

      private

      def seconds = @snapshot.task["ended_at"] - @snapshot.task["created_at"]

      def running = @snapshot.task["running_seconds"]

      def slowest = @slowest ||= @snapshot.slowest

      def facts
        { created_at: @snapshot.task["created_at"], ended_at: @snapshot.task["ended_at"],
          seconds: seconds, running_seconds: running,
          slowest_step: slowest&.fetch("name"), slowest_seconds: slowest&.fetch("seconds") }
      end
    end
  end
end
