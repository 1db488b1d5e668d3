# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A step that runs as a job of the application's queue, and whose job no process has started.
    #
    # @api private
    class Dispatched < StepExplanation
      # Seconds after which a job should have started.
      LATE = 60
      private_constant :LATE

      def kind = "dispatched"

      def headline
        waits = span(since(@step["claimed_at"]))
        return "#{step_name} was claimed #{waits} ago and is being enqueued as a job" unless enqueued?

        "#{step_name} has been enqueued as a job in the queue #{@step['queue']} for #{waits}, and no process has " \
          "started it"
      end

      private

      def enqueued? = @step["dispatch"] == "enqueued"

      def details = [given_up, "it has used no attempt", behind]

      def given_up
        return "it is dispatched again by the next sweep" if @step["deadline"] <= now

        "if it does not start by #{at(@step['deadline'])}, it is dispatched again"
      end

      def remedy
        return if since(@step["claimed_at"]) < LATE

        "check that the processes of the application's job queue run and serve the queue #{@step['queue']}; if the " \
          "job is lost, dispatch it again at once: #{command('release')}"
      end

      def facts
        super.merge(claimed_at: @step["claimed_at"], start_by: @step["deadline"], process: @step["process_id"])
      end
    end
  end
end
