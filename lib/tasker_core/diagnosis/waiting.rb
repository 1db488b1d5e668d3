# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A step that waits for a time: its next attempt, or the next time that it is offered to workers.
    #
    # @api private
    class Waiting < StepExplanation
      def kind = overdue? ? "overdue" : cause

      def headline
        return "#{step_name} was due at #{at(run_at)}, #{span(-left)} ago, but no sweep has made it ready" if overdue?

        case cause
        when "retry" then "#{step_name} waits for attempt #{@step['attempts'] + 1} of #{@step['max_attempts']} #{till}"
        when "delay"
          "#{step_name} is scheduled: it waits #{till}#{', the start time of its task' if left.positive?}"
        when "limited" then "#{step_name} waits for capacity #{till}"
        when "unknown_handler"
          "#{step_name} waits #{till}: no worker that claimed it defines its handler #{@step['handler']}"
        when "not_loaded"
          "#{step_name} waits #{till}: the worker that claimed it cannot load the application's code"
        when "not_enqueued"
          "#{step_name} waits #{till}: the application's job queue did not accept its job"
        when "unreadable" then "#{step_name} is set aside and checked again #{checked}"
        end
      end

      private

      def cause = @step["waiting_reason"]

      def run_at = @step["run_at"]

      # Seconds until it is due.
      def left = run_at - now

      # With a live worker, a sweep should make a due step ready soon.
      def overdue? = left <= 0 && (!worker? || -left > 2 * sweep_interval)

      def till
        return "until the next sweep makes it ready (it is due)" if left <= 0

        "until #{at(run_at)} (in #{span(left)})"
      end

      def checked = left <= 0 ? "by the next sweep" : "at #{at(run_at)} (in #{span(left)})"

      def details = [*about, behind]

      def about
        error = @step["last_error"]
        return [unswept, ("its last attempt failed with #{failure(error)}" if error)] if overdue?

        case cause
        when "retry" then ["its last attempt failed with #{failure(error)}"] if error
        when "limited" then [limit]
        when "unknown_handler", "not_loaded" then ["it has used no attempt"]
        when "unreadable", "not_enqueued" then [failure(error), "it has used no attempt"]
        end
      end

      def unswept = worker? ? "the sweeps of the live workers do not reach it" : "no live worker runs sweeps"

      def limit
        "the limit #{limits.join(' or ')} is reached"
      end

      def remedy
        return sweep_remedy if overdue?

        case cause
        when "retry", "delay" then "to run it now: #{command('retry')}"
        when "limited" then "if this is too slow, raise #{[*limits, 'execution.processes'].join(' or ')}"
        when "unknown_handler"
          "deploy workers that define #{@step['handler']}, or let only such workers serve the queue #{@step['queue']}"
        when "not_loaded" then "fix the error in the worker's log: the step runs after the next reload"
        when "not_enqueued" then "check that the queue's server runs: the step is dispatched again by itself"
        when "unreadable"
          "repair the damaged data, then #{command('retry')}; or cancel the task: #{command('cancel', nil)}"
        end
      end

      def sweep_remedy
        worker? ? "check the workers' log for sweep errors, and run `tasker doctor`" : start_a_worker
      end

      def limits
        ["execution.parallel_steps_per_task", ("systems.#{@step['system']}.concurrency" if @step["system"])].compact
      end

      def facts = super.merge(waiting_reason: cause, run_at: run_at, system: @step["system"])
    end
  end
end
