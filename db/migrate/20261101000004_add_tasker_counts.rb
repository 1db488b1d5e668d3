# frozen_string_literal: true

# The counters behind the metrics. A row holds what one transaction adds to the counters of a workflow; sweeps replace
# many rows with their sum (fold_counts). So writers never wait for each other, and a sum over the table is exact in
# every snapshot. Rows without a workflow hold what worker processes measured before they ended.
class AddTaskerCounts < ActiveRecord::Migration[7.1]
  prepend TaskerCore::Postgres::Tables

  # Null is 0 and takes no space. `removed_…`: tasks in that state that were deleted. `reopened`: from error to pending.
  COUNTS = %i[
    created completed failed cancelled resolved reopened
    removed_complete removed_error removed_cancelled removed_resolved
    attempts_completed attempts_failed attempts_released attempts_lost
  ].freeze

  def change
    create_table :tasker_counts do |t|
      t.text :namespace
      t.text :workflow
      COUNTS.each { |name| t.bigint name }
      t.jsonb :stats
    end
    add_column :tasker_processes, :stats, :jsonb
    reversible { |direction| direction.up { count_tasks } }
  end

  private

  # Older functions cannot count: then the tasks are counted when the new ones are installed.
  def count_tasks
    recount = "tasker_core_v1.recount_tasks"
    counts = connection.select_value("select to_regprocedure('#{recount}(boolean)') is not null")
    execute("select #{recount}()") if counts
  end
end
