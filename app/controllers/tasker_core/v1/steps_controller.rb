# frozen_string_literal: true

module TaskerCore
  module V1
    # Steps of a task, each by its name.
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
        step = Task.lookup(params[:task_id]).step(params[:name])
        authorize(:show, :steps, step)
        render_json(HTTP::Serializer.step(step))
      end
    end
  end
end
