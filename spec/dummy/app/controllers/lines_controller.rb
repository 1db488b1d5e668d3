# frozen_string_literal: true

# An application's own endpoints for one workflow.
class LinesController < ActionController::API
  include TaskerCore::TaskEndpoints

  def create
    task = create_task_from(Line, params, idempotency_key: params[:order], priority: 3)
    render_task task, url: line_url(task)
  end

  def show = render_task(TaskerCore::Task.lookup(params[:id]), steps: params[:steps].present?)

  def cancel = render_task(TaskerCore::Task.lookup(params[:id]).cancel!(reason: params[:reason], by: "ada"))

  # Passes permitted parameters, or a plain hash, unchanged.
  def permitted = render_task(create_task_from(Line, params.permit(:n, :m)))

  def unnamed = render_task(create_task_from(Three, params))

  def given = render_task(create_task_from(Line, { n: 7 }))
end
