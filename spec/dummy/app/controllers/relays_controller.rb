# frozen_string_literal: true

# Starts a task from a request, in it and in a job that it enqueues.
class RelaysController < ActionController::API
  def create
    task = Relay.create!(card: params.require(:card))
    RelayJob.perform_later
    render json: { task: task.id, correlation_id: TaskerCore.correlation_id }, status: :created
  end
end
