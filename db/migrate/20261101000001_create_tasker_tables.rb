# frozen_string_literal: true

# The tables of the kernel. Only the functions in db/functions write to them.
#
# A row in a table of live steps is the state ready, claimed or waiting. Rows that are updated often carry no
# payload, no index on columns that change, and no foreign key. Storage settings, which schema.rb cannot hold,
# are in db/storage.sql.
class CreateTaskerTables < ActiveRecord::Migration[7.1]
  prepend TaskerCore::Postgres::Tables

  def change
    reversible { |direction| direction.up { TaskerCore::Postgres::Tables.verify!(connection) } }
    workflows
    tasks
    steps
    live_steps
    history
    processes
    outbox
  end

  private

  def workflows
    create_table :tasker_workflow_versions do |t|
      t.text :namespace, null: false
      t.text :name, null: false
      t.text :version, null: false
      t.text :digest, null: false
      t.jsonb :definition, null: false
      t.timestamptz :created_at, null: false
      t.index %i[namespace name version], unique: true, name: "tasker_one_digest_per_version"
    end

    create_table :tasker_step_definitions, primary_key: %i[workflow_version_id position] do |t|
      t.bigint :workflow_version_id, null: false
      t.integer :position, null: false
      t.text :name, null: false
      t.text :handler, null: false
      t.text :queue, null: false
      t.integer :priority, null: false
      t.integer :level, null: false
      t.integer :dependencies, array: true, null: false
      t.integer :dependents, array: true, null: false
      t.integer :max_attempts, null: false
      t.text :backoff, null: false
      t.integer :base_ms, null: false
      t.float :factor, null: false
      t.integer :cap_ms, null: false
      t.float :jitter, null: false
      t.integer :timeout_ms, null: false
      t.text :system
      t.jsonb :config, null: false
      t.index %i[workflow_version_id name], unique: true, name: "tasker_one_step_per_name"
      t.check_constraint "max_attempts >= 1", name: "tasker_first_attempt_is_always_allowed"
      t.check_constraint "backoff in ('none', 'fixed', 'linear', 'exponential')", name: "tasker_backoff_is_known"
    end
  end

  # `active`: steps that are ready, claimed or waiting. `remaining`: steps not yet done.
  def tasks
    create_table :tasker_tasks do |t|
      t.integer :active, null: false
      t.integer :remaining, null: false
      t.text :state, null: false
      t.timestamptz :ended_at
      t.bigint :workflow_version_id, null: false
      t.uuid :uuid, null: false
      t.integer :priority, null: false
      t.uuid :correlation_id, null: false
      t.uuid :parent_correlation_id
      t.text :tags, array: true, null: false
      t.timestamptz :created_at, null: false
      t.index :uuid, unique: true, name: "tasker_one_task_per_uuid"
      t.index %i[workflow_version_id uuid], name: "tasker_tasks_by_workflow"
      t.index %i[correlation_id uuid], name: "tasker_tasks_by_correlation"
      t.check_constraint "state in ('pending', 'complete', 'error', 'cancelled', 'resolved_manually')",
                         name: "tasker_task_state_is_stored"
      t.check_constraint "active >= 0 and remaining >= active", name: "tasker_counters_add_up"
    end

    create_table :tasker_task_inputs, primary_key: :task_id, id: :bigint, default: nil do |t|
      t.integer :input_bytes, null: false
      t.jsonb :input, null: false
    end

    create_table :tasker_idempotency_keys, primary_key: %i[namespace workflow idempotency_key] do |t|
      t.text :namespace, null: false
      t.text :workflow, null: false
      t.text :idempotency_key, null: false
      t.bigint :task_id, null: false
      t.index :task_id, name: "tasker_idempotency_keys_by_task"
    end
  end

  # `pending_parents`: parents that are not done yet. `result_bytes`: the length of the result as text; like
  # `input_bytes`, it decides whether a claim carries the payload, without reading it. Columns that never change come
  # first, so that an update logs less.
  def steps
    create_table :tasker_workflow_steps, primary_key: %i[task_id position] do |t|
      t.bigint :task_id, null: false
      t.integer :position, null: false
      t.integer :pending_parents, null: false
      t.integer :attempts, null: false
      t.integer :result_bytes
      t.text :state, null: false
      t.jsonb :result
      t.jsonb :last_error
      t.check_constraint "state in ('pending', 'complete', 'error', 'cancelled', 'resolved_manually')",
                         name: "tasker_step_state_is_stored"
      t.check_constraint "pending_parents >= 0", name: "tasker_pending_parents_is_a_count"
    end
  end

  def live_steps
    create_table :tasker_ready_steps, primary_key: %i[queue priority seq] do |t|
      t.text :queue, null: false
      t.integer :priority, null: false
      t.bigserial :seq, null: false
      t.bigint :task_id, null: false
      t.integer :position, null: false
      t.timestamptz :ready_at, null: false
      t.index %i[priority seq]
    end

    create_table :tasker_claimed_steps, primary_key: :token do |t|
      t.bigint :process_id, null: false
      t.bigint :task_id, null: false
      t.integer :position, null: false
      t.integer :attempt, null: false
      t.timestamptz :ready_at, null: false
      t.timestamptz :claimed_at, null: false
      t.timestamptz :deadline, null: false
    end

    create_table :tasker_waiting_steps, primary_key: %i[task_id position] do |t|
      t.bigint :task_id, null: false
      t.integer :position, null: false
      t.timestamptz :run_at, null: false
      t.text :reason, null: false
      t.jsonb :error
      t.index :run_at, name: "tasker_waiting_steps_by_time"
    end
  end

  def history
    create_table :tasker_step_attempts, primary_key: %i[task_id position token] do |t|
      t.bigint :task_id, null: false
      t.integer :position, null: false
      t.integer :attempt, null: false
      t.bigint :token, null: false
      t.bigint :process_id, null: false
      t.timestamptz :ready_at, null: false
      t.timestamptz :claimed_at, null: false
      t.timestamptz :started_at, null: false
      t.timestamptz :finished_at, null: false
      t.text :outcome, null: false
      t.jsonb :error
      t.check_constraint "outcome in ('completed', 'failed', 'released', 'lost')", name: "tasker_outcome_is_known"
    end

    create_table :tasker_task_events do |t|
      t.bigint :task_id, null: false
      t.integer :position
      t.text :action, null: false
      t.text :actor
      t.text :reason
      t.timestamptz :created_at, null: false
      t.index :task_id, name: "tasker_task_events_by_task"
    end
  end

  # The id names a registration: a process that was declared dead registers again under another id. It is random
  # (register_process), so that no other state of the database draws it again.
  # Each process stores its heartbeat timeout, and how much longer than a step's time limit its leases last, so that
  # processes with other settings can judge it.
  def processes
    create_table :tasker_processes, id: :bigint, default: nil do |t|
      t.timestamptz :heartbeat_at, null: false
      t.boolean :idle, null: false
      t.text :queues, array: true, null: false
      t.text :name, null: false
      t.text :hostname, null: false
      t.integer :pid, null: false
      t.timestamptz :started_at, null: false
      t.interval :heartbeat_timeout, null: false
      t.interval :lease_grace, null: false
    end
  end

  # `cursor_id`: all events up to it are delivered. `removed_id`: all events up to it have been removed. `mark_id`: no
  # event up to it can appear any more once all transactions below `mark_xid` have ended. `process_id`: the process that
  # is delivering.
  def outbox
    create_table :tasker_outbox_events do |t|
      t.text :name, null: false
      t.uuid :uuid, null: false
      t.uuid :correlation_id
      t.timestamptz :occurred_at, null: false
      t.jsonb :payload, null: false
    end

    create_table :tasker_subscriptions, primary_key: :name, id: :text do |t|
      t.bigint :cursor_id, null: false
      t.bigint :removed_id, null: false
      t.bigint :mark_id, null: false
      t.bigint :mark_xid, null: false
      t.bigint :process_id
      t.integer :failures, null: false
      t.timestamptz :retry_at
      t.timestamptz :delivered_at
      t.timestamptz :created_at, null: false
      t.jsonb :last_error
      t.text :events, array: true, null: false
    end
  end
end
