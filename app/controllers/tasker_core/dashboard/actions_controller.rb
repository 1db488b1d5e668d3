# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # What somebody does to a task or to a step by hand: a form that asks why, and the doing. The actions are those of the API.
    class ActionsController < BaseController
      before_action :find_record, :find_action
      before_action :verify_session
      # Last: it needs a session.
      protect_from_forgery with: :exception

      def new; end

      # What has been done is told by the task's page, of the event that records it.
      def create
        @form.perform(@record, reason: text(:reason), result: text(:result), by: by)
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
        @form = (@step ? ActionForm::STEP : ActionForm::TASK).fetch(params[:operation].to_sym)
        authorize(@form.name, @step ? :steps : :tasks, @record)
      end

      def verify_session
        raise RequestError.new(NO_SESSION) unless sessions?
      end

      def by = TaskerCore.access.name_of(@actor, anonymous: "dashboard")

      def text(name) = params[name].is_a?(String) ? params[name] : ""
    end
  end
end
