# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker retry`: a step that failed has its attempts again, one that waits is ready at once. Without a step, all that
    # failed; where none has, all that wait.
    #
    # @api private
    class Retry < ActionCommand
      ARGUMENTS = %w[TASK [STEP]].freeze

      private

      def change(task, step)
        return retry_step(step) if step

        states = task.steps.group_by(&:state)
        return task.reset_attempts!(reason, by: by) if states.key?("error")

        waiting = states.fetch("waiting") do
          raise TransitionError.new("task #{task.id} has no step that failed or waits: there is nothing to retry")
        end
        "#{counted(waiting.count { |step| ready?(step) }, 'step')} that waited"
      end

      def retry_step(step) = step.state == "waiting" ? step.retry_now!(reason, by: by) : step.reset_attempts!(reason, by: by)

      # The function itself: the model would read the step again after it. Each by itself: what a sweep has made ready in the
      # meantime is no reason to leave the others.
      def ready?(step)
        Operations::Action.call(:retry_now, step.task_id, step.position, reason, by)
      rescue TransitionError
        false
      end
    end
  end
end
