# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # Shows one step of a task: its result, its error, and every attempt.
    class StepsController < BaseController
      def show
        @task = Task.lookup(params[:task_id])
        authorize(:show, :dashboard, @task)
        @step = @task.step(params[:name])
        @process = @step.process
        @attempts, @next = attempts
        refresh_page unless Task::ENDED.include?(@task.state)
      end

      private

      # The attempts before the token in the parameters, latest first, including a running one.
      def attempts
        all = StepAttempt.with_running([@task]).where(position: @step.position).order(token: :desc)
        before = number_of(:before)
        all = all.where("token < ?", before) if before
        found = StepAttempt.list(all.limit(page_size + 1))
        [found.first(page_size), (found[page_size - 1].token if found.size > page_size)]
      end
    end
  end
end
