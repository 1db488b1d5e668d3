# frozen_string_literal: true

# Steps that the application's own job queue runs (docs/queues.md). Dispatchers scan the ready steps as workers do, but
# only those with `dispatched`, so it is the first column of the index and the second of the primary key.
#
# `idle_dispatcher` of a process is null unless it dispatches. `dispatch` of a claim: `claimed` by a dispatcher,
# `enqueued` as a job, `started` by the process that runs the job.
class AddDispatch < ActiveRecord::Migration[7.1]
  prepend TaskerCore::Postgres::Tables

  def change
    reversible { |direction| direction.up { execute "set local lock_timeout = '5s'" } }
    add_column :tasker_step_definitions, :dispatch, :text
    add_column :tasker_processes, :idle_dispatcher, :boolean
    add_column :tasker_claimed_steps, :dispatch, :text
    add_index :tasker_claimed_steps, :token, where: "dispatch is not null", name: "tasker_dispatched_claims"
    scan_by_dispatched
  end

  private

  def scan_by_dispatched
    add_column :tasker_ready_steps, :dispatched, :boolean, null: false, default: false
    remove_index :tasker_ready_steps, %i[priority seq]
    add_index :tasker_ready_steps, %i[dispatched priority seq], name: "tasker_ready_steps_by_priority"
    reversible do |direction|
      direction.up { replace_primary_key "queue, dispatched, priority, seq" }
      direction.down { replace_primary_key "queue, priority, seq" }
    end
  end

  def replace_primary_key(columns)
    execute "alter table tasker_ready_steps drop constraint tasker_ready_steps_pkey, add primary key (#{columns})"
  end
end
