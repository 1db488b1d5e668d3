# frozen_string_literal: true

module TaskerCore
  # An attempt of a step: when it was ready, claimed, started and finished, and its outcome.
  class StepAttempt < ApplicationRecord
    self.table_name = "tasker_step_attempts"
    self.primary_key = %i[task_id position token]

    belongs_to :task, class_name: "TaskerCore::Task", inverse_of: :attempts

    # An operator's retry numbers attempts from 1 again, while a released attempt's number is used again. An attempt
    # with a higher number than the step's was made before a retry after which the step was not claimed yet.
    RUNS = <<~SQL.freeze
      select r.task_id, r.position, (array_agg(r.started_at order by r.token))[1] as started_at,
        (array_agg(r.finished_at order by r.token desc))[1] as finished_at, sum(r.seconds) as seconds
      from (
        select b.*,
          count(*) filter (where b.begins) over (partition by b.task_id, b.position order by b.token) as number,
          count(*) filter (where b.begins) over (partition by b.task_id, b.position) as latest
        from (
          select a.*, a.attempt <= lag(a.attempt) over run and lag(a.outcome) over run <> 'released' as begins
          from #{Postgres::Functions::SCHEMA}.step_attempts(?::bigint[]) a
          window run as (partition by a.task_id, a.position order by a.token)
        ) as b
      ) as r
      join tasker_workflow_steps s on s.task_id = r.task_id and s.position = r.position
      where r.number = r.latest
      group by r.task_id, r.position, s.attempts
      having coalesce(max(r.attempt) filter (where r.outcome not in ('released', 'running')), 0) <= s.attempts
    SQL
    private_constant :RUNS

    # Finished attempts, and those that run, with the outcome "running". `seconds` is the duration until the end or
    # until now. A running attempt's start is the time when its process claimed it.
    #
    # @param tasks [Array<Task>]
    # @return [ActiveRecord::Relation<StepAttempt>]
    def self.with_running(tasks)
      ids = PG::TextEncoder::Array.new.encode(Array(tasks).map(&:id))
      attempts = sanitize_sql_array(["#{Postgres::Functions::SCHEMA}.step_attempts(?::bigint[]) as #{table_name}", ids])
      from(attempts).select("#{table_name}.*")
    end

    # Sums up the attempts of each step since an operator last retried it: `started_at` of the first, `finished_at` of
    # the last (nil while one runs), and `seconds` of all together. Omits steps without such attempts.
    #
    # @param tasks [Array<Task>]
    # @return [ActiveRecord::Relation<StepAttempt>]
    def self.current_runs(tasks)
      ids = PG::TextEncoder::Array.new.encode(Array(tasks).map(&:id))
      from("(#{sanitize_sql_array([RUNS, ids])}) as #{table_name}").select("#{table_name}.*")
    end

    # Omits the errors, which may be large: {#error} reads them when needed.
    # @api private
    scope :without_error, -> { reselect(*(column_names - ["error"]), :seconds) }

    # @param attempts [ActiveRecord::Relation] as {with_running} returns it
    # @return [Array<StepAttempt>]
    def self.list(attempts) = load_without(:error, attempts, "the attempts")

    # @return [Hash{String => Object}, nil] class, message, code and backtrace; those of an {UnreadableError} if the
    #   database cannot read it
    def error
      return super if has_attribute?(:error)

      @error ||= read_column(:error, "the error of attempt #{attempt}")
    rescue UnreadableError => e
      { "class" => e.class.name, "message" => e.message, **e.facts }
    end

    # @return [Float] seconds from the start to the end, or to now
    def seconds = has_attribute?(:seconds) ? self[:seconds] : finished_at - started_at
  end
end
