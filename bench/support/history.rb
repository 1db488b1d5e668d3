# frozen_string_literal: true

# Finished tasks of five steps, written directly into the tables.
class History
  STEPS = 5

  # @param workflow_version [Integer] of five steps
  def initialize(connection, workflow_version)
    @connection = connection
    @workflow_version = workflow_version
    @tasks = 0
  end

  # Adds tasks until this number of steps is stored. The n-th task ended n seconds before an hour ago, so that the last
  # hour is the same with any number of steps.
  def fill(steps)
    added = (steps / STEPS) - @tasks
    first = reserved("tasker_tasks_id_seq", added)
    token = reserved("tasker_claimed_steps_token_seq", added * STEPS)
    rows(first, token, added).each { |table, selected| @connection.exec("insert into #{table} #{selected}") }
    @tasks += added
    @connection.exec("vacuum (full, analyze) tasker_ready_steps, tasker_claimed_steps, tasker_waiting_steps")
    @connection.exec("vacuum (analyze)")
  end

  private

  # Reserves numbers of a sequence; returns the first.
  def reserved(sequence, count)
    first = @connection.exec("select nextval('#{sequence}')").getvalue(0, 0).to_i
    @connection.exec("select setval('#{sequence}', #{first + count})")
    first
  end

  def rows(first, token, added)
    tasks = "from (select #{first} + n as id, n, " \
            "now() - interval '1 hour' - make_interval(secs => #{@tasks} + n) as at " \
            "from generate_series(1, #{added}) as n) as task"
    steps = "#{tasks} cross join generate_series(0, #{STEPS - 1}) as position"
    {
      "tasker_tasks (id, workflow_version_id, uuid, state, active, remaining, priority, correlation_id, tags, " \
      "created_at, ended_at)" =>
        "select id, #{@workflow_version}, tasker_core_v1.uuid_v7(at - interval '1 second'), 'complete', 0, 0, 0, " \
        "gen_random_uuid(), '{}', at - interval '1 second', at #{tasks}",
      "tasker_task_inputs (task_id, input, input_bytes)" =>
        "select id, '{\"order_id\": 42}', 16 #{tasks}",
      "tasker_workflow_steps (task_id, position, pending_parents, attempts, state, result, result_bytes)" =>
        "select id, position, 0, 1, 'complete', '{\"total\": 42}', 13 #{steps}",
      "tasker_step_attempts (task_id, position, attempt, token, process_id, ready_at, claimed_at, started_at, " \
      "finished_at, outcome)" =>
        "select id, position, 1, (#{token} + n * #{STEPS} - position) << 20, 0, at, at, at, at, 'completed' #{steps}"
    }
  end
end
