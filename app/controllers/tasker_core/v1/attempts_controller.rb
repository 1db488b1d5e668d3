# frozen_string_literal: true

module TaskerCore
  module V1
    # Attempts of a task, or of one of its steps, in the order of their claims, including running ones.
    class AttemptsController < BaseController
      def index
        given = query(limit: :number, after: :number)
        limit = Parameters.page_size(given)
        task = task_for(:list, :attempts)
        found = StepAttempt.list(attempts_after(given.fetch(:after, 0), task).limit(limit + 1))
        attempts, following = page_of(found, limit, &:token)
        render_page(:attempts, HTTP::Serializer.attempts(task, attempts), following)
      end

      private

      def attempts_after(after, task)
        attempts = StepAttempt.with_running([task]).where("token > ?", after).order(:token)
        params[:name] ? attempts.where(position: task.step(params[:name]).position) : attempts
      end
    end
  end
end
