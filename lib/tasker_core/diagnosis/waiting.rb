# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A step that waits for a time: that of its next attempt, or that of the next offer to workers.
    #
    # @api private
    class Waiting < StepExplanation
      def kind = overdue? ? "overdue" : cause

      def headline
        return "#{step_name} was due at #{at(run_at)}, #{span(-left)} ago, and nobody has made it ready" if overdue?

        case cause
        when "retry" then "#{step_name} waits for attempt #{@step['attempts'] + 1} of #{@step['max_attempts']} #{till}"
        when "delay" then "#{step_name} is scheduled: it waits #{till}, the time for which the task was created"
        when "limited" then "#{step_name} waits for capacity #{till}: others run"
        when "unknown_handler" then "#{step_name} waits #{till}: no worker that took it knows its handler #{@step['handler']}"
        when "not_loaded" then "#{step_name} waits #{till}: the worker that took it cannot load the application's code"
        when "unreadable" then "#{step_name} is set aside, and checked again #{checked}"
        end
      end

      private

      def cause = @step["waiting_reason"]

      def run_at = @step["run_at"]

      # Seconds until it is due.
      def left = run_at - now

      # Each worker sweeps; with one alive, it is not for long that a step that is due still waits.
      def overdue? = left <= 0 && (!worker? || -left > 2 * sweep_interval)

      def till
        return "until the next sweep, which makes it ready (it is due)" if left <= 0

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
        when "unknown_handler", "not_loaded" then ["it has spent no attempt"]
        when "unreadable" then [failure(error), "it has spent no attempt"]
        end
      end

      def unswept = worker? ? "the live workers' sweeps do not reach it" : "no live worker is there to do it"

      def limit
        system = @step["system"]
        "as many steps of its task run as execution.parallel_steps_per_task says" \
          "#{", or steps of the system #{system} as systems.#{system}.concurrency says" if system}"
      end

      def remedy
        return worker? ? "look for errors of sweeps in the workers' log: `tasker doctor`" : start_a_worker if overdue?

        case cause
        when "retry", "delay" then "not to wait: #{command('retry')}"
        when "limited" then "raise #{limits}, or execution.processes, if that is too slow"
        when "unknown_handler"
          "deploy workers that define #{@step['handler']}, or let only those serve the queue #{@step['queue']}"
        when "not_loaded" then "correct the error that the worker's log names: the next reload takes the step up"
        when "unreadable" then "repair what is damaged, then #{command('retry')}; or give the task up: #{command('cancel', nil)}"
        end
      end

      def limits
        ["execution.parallel_steps_per_task", ("systems.#{@step['system']}.concurrency" if @step["system"])].compact.join(", ")
      end

      def facts = super.merge(waiting_reason: cause, run_at: run_at, system: @step["system"])
    end
  end
end
