# frozen_string_literal: true

# The W3C trace context of the code that created a task: {traceparent, tracestate}, or null.
class AddTaskerTraceContext < ActiveRecord::Migration[7.1]
  prepend TaskerCore::Postgres::Tables

  def change
    add_column :tasker_task_inputs, :trace_context, :jsonb
  end
end
