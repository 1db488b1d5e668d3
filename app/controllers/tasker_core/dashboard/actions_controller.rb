# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # An operator's actions on a task, or on one of its steps: a form that asks for the reason, and its submission.
    class ActionsController < BaseController
      before_action :find_record, :find_action
      before_action :verify_session
      # Last: it needs a session.
      protect_from_forgery with: :exception

      def new; end

      # The task's page shows the event that records the action.
      def create
        result = JsonField.object("result", text(:result)) if @action.result?
        @action.perform(@record, reason: text(:reason), result: result, by: by)
        redirect_to dashboard_task_path(@task, done: @task.events.maximum(:id)), status: :see_other
      rescue TransitionError, InputError => e
        @refusal = e.message
        render :new, status: HTTP::ProblemDetails.new(e).status
      end

      private

      def find_record
        @task = Task.lookup(params[:task_id])
        @step = @task.step(params[:name]) if params[:name]
        @record = @step || @task
      end

      def find_action
        @action = Operations::Action.find(@step ? :step : :task, params[:operation])
        authorize(@action.name, @action.resource, @record)
      end

      def verify_session
        raise RequestError.new(NO_SESSION) unless sessions?
      end

      def by = TaskerCore.access.name_of(@actor, anonymous: "dashboard")

      def text(name) = params[name].is_a?(String) ? params[name] : ""
    end
  end
end
