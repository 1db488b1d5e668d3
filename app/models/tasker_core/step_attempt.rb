# frozen_string_literal: true

module TaskerCore
  # One execution of a step: when it was ready, claimed, started and finished, and what it came to.
  class StepAttempt < ApplicationRecord
    self.table_name = "tasker_step_attempts"
    self.primary_key = %i[task_id position token]

    belongs_to :task, class_name: "TaskerCore::Task", inverse_of: :attempts

    # A reset numbers attempts from 1 again, while one that was released spent no number: the next one has the same. An attempt
    # that spent more than the step has was made before a reset since which none was claimed.
    RUNS = <<~SQL
      select r.task_id, r.position, (array_agg(r.started_at order by r.token))[1] as started_at,
        (array_agg(r.finished_at order by r.token desc))[1] as finished_at, sum(r.seconds) as seconds
      from (
        select b.*,
          count(*) filter (where b.begins) over (partition by b.task_id, b.position order by b.token) as number,
          count(*) filter (where b.begins) over (partition by b.task_id, b.position) as latest
        from (
          select a.*, a.attempt <= lag(a.attempt) over run and lag(a.outcome) over run <> 'released' as begins
          from tasker_core_v1.step_attempts(?::bigint[]) a
          window run as (partition by a.task_id, a.position order by a.token)
        ) as b
      ) as r
      join tasker_workflow_steps s on s.task_id = r.task_id and s.position = r.position
      where r.number = r.latest
      group by r.task_id, r.position, s.attempts
      having coalesce(max(r.attempt) filter (where r.outcome not in ('released', 'running')), 0) <= s.attempts
    SQL
    private_constant :RUNS

    # Attempts as people see them: those that have ended, and those that run, whose outcome is "running". `seconds` is the
    # duration, of one that runs up to now. Its start is the time at which its process claimed it.
    #
    # @param tasks [Array<Task>]
    # @return [ActiveRecord::Relation<StepAttempt>]
    def self.with_running(tasks)
      ids = PG::TextEncoder::Array.new.encode(Array(tasks).map(&:id))
      from(sanitize_sql_array(["tasker_core_v1.step_attempts(?::bigint[]) as #{table_name}", ids])).select("#{table_name}.*")
    end

    # The attempts of each step since it was last reset, as one: `started_at` of the first, `finished_at` of the last, nil while
    # one runs, and `seconds` of all together. A step without an attempt since has none.
    #
    # @param tasks [Array<Task>]
    # @return [ActiveRecord::Relation<StepAttempt>]
    def self.current_runs(tasks)
      ids = PG::TextEncoder::Array.new.encode(Array(tasks).map(&:id))
      from("(#{sanitize_sql_array([RUNS, ids])}) as #{table_name}").select("#{table_name}.*")
    end

    # @return [Float] seconds from start to end, or to now
    def seconds = has_attribute?(:seconds) ? self[:seconds] : finished_at - started_at
  end
end
