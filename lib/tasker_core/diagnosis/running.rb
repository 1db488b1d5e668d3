# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A step that a process has claimed, whether the process is live or lost.
    #
    # @api private
    class Running < StepExplanation
      def kind = lost? ? "lost_worker" : "in_progress"

      def headline
        return "#{step_name} was claimed by #{process}, #{silence}" if lost?

        "#{step_name} has been running in #{process} for #{span(since(@step['claimed_at']))}, #{attempt}"
      end

      private

      def lost? = silent? || @step["deadline"] <= now

      def silent? = @step["heartbeat_at"].nil? || given_up_at <= now

      def given_up_at = @step["heartbeat_at"] + @step["heartbeat_timeout"]

      def silence
        return "which is no longer registered" unless @step["heartbeat_at"]
        return "which has sent no heartbeat for #{span(since(@step['heartbeat_at']))}" if silent?

        "and its lease expired at #{at(@step['deadline'])}"
      end

      def process
        return "process #{@step['process_id']}" unless @step["process_name"]

        "#{@step['process_name']} (process #{@step['process_id']}, pid #{@step['pid']} on #{@step['hostname']})"
      end

      def attempt = "attempt #{@step['attempt']} of #{@step['max_attempts']}"

      def details = [lost? ? found : limit, behind]

      def found
        return "no live worker can recover it" unless worker?

        "the next sweep of another worker (every #{span(sweep_interval)}) records #{attempt} as lost"
      end

      def limit
        quiet = since(@step["heartbeat_at"])
        if quiet > @step["heartbeat_timeout"] / 2
          "its worker has been silent for #{span(quiet)} and is considered lost at #{at(given_up_at)}"
        elsif late?
          "its time limit of #{span(seconds)} has passed, and its lease expires at #{at(@step['deadline'])}"
        else
          "its time limit is #{span(seconds)}"
        end
      end

      def seconds = @step["timeout_ms"] / 1000.0

      def late? = since(@step["claimed_at"]) > seconds

      def remedy
        return (start_a_worker unless worker?) if lost?

        "release it so that another worker runs it: #{command('release')}" if late?
      end

      def facts
        super.merge(attempt: @step["attempt"], process: @step["process_id"], process_name: @step["process_name"],
                    hostname: @step["hostname"], pid: @step["pid"], claimed_at: @step["claimed_at"], timeout: seconds,
                    lease_until: @step["deadline"], heartbeat_at: @step["heartbeat_at"])
      end
    end
  end
end
