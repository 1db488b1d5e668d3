# frozen_string_literal: true

module TaskerCore
  module V1
    # An operator's actions on a task, or on one of its steps: a route for each of {Operations::Action}.
    class ActionsController < BaseController
      def create
        given = body(**parameters)
        record = action.perform(authorized_record, reason: given[:reason], result: given[:result], by: by)
        render_json(HTTP::Serializer.public_send(action.subject, record))
      end

      private

      def action = Operations::Action.find(params[:name] ? :step : :task, params[:operation])

      def parameters = action.result? ? { reason: :text, result: :object } : { reason: :text }

      def authorized_record
        task = Task.lookup(params[:task_id] || params[:id])
        record = params[:name] ? task.step(params[:name]) : task
        record.tap { authorize(action.name, action.resource, record) }
      end
    end
  end
end
