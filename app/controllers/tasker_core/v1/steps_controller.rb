# frozen_string_literal: true

module TaskerCore
  module V1
    # Steps of a task, each by its name, and what can be done to one by hand.
    class StepsController < BaseController
      def index
        given = query(limit: :number, after: :number)
        limit = Parameters.page_size(given)
        task = task_for(:list, :steps)
        steps, following = WorkflowStep.page(task, after: given.fetch(:after, -1), limit: limit)
        render_page(:steps, HTTP::Serializer.steps(task, steps), following)
      end

      def show
        query
        render_json(HTTP::Serializer.step(step_for(:show)))
      end

      # One that waits is ready at once; one that has failed gets its attempts again.
      def retry
        changed(:retry) do |step, reason|
          step.state == "waiting" ? step.retry_now!(reason, by: by) : step.reset_attempts!(reason, by: by)
        end
      end

      def resolve = changed(:resolve) { |step, reason| step.mark_resolved!(reason, by: by) }

      def release = changed(:release) { |step, reason| step.release!(reason, by: by) }

      def complete = changed(:complete, result: :object) { |step, reason, result| step.complete!(result, reason: reason, by: by) }

      def update_result
        changed(:update_result, result: :object) { |step, reason, result| step.update_result!(result, reason: reason, by: by) }
      end

      private

      def step_for(action)
        Task.lookup(params[:task_id]).step(params[:name]).tap { |step| authorize(action, :steps, step) }
      end

      def changed(verb, **types)
        given = body(reason: :text, **types)
        render_json(HTTP::Serializer.step(yield(step_for(verb), given[:reason], given[:result])))
      end
    end
  end
end
