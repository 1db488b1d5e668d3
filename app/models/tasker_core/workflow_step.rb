# frozen_string_literal: true

module TaskerCore
  # One step of a task. Its state combines the stored state with its live row: ready, in progress or waiting.
  class WorkflowStep < ApplicationRecord
    include Operations::Operable

    self.table_name = "tasker_workflow_steps"
    self.primary_key = %i[task_id position]

    belongs_to :task, -> { without_tags }, class_name: "TaskerCore::Task"

    # A result of up to this many bytes of JSON is read with its step, a larger one when needed.
    INLINE_BYTES = 4096

    STATES = <<~SQL.freeze
      select task_id, position, name, state, attempts, max_attempts, pending_parents, dependencies, run_at, waiting_reason,
        claimed_by, claimed_at, dispatch, result_bytes,
        case when result_bytes <= #{INLINE_BYTES} then result end as result, last_error
      from #{Postgres::Functions::SCHEMA}.step_states(array[?]::bigint[])
      where position > ?
      order by position
      limit ?
    SQL
    # Reads results when needed, and each error by itself.
    READABLE_ERROR = "#{Postgres::Functions::SCHEMA}.readable_error(task_id, position) as last_error".freeze
    READABLE_STATES = STATES.sub(/case when.*last_error/, READABLE_ERROR).freeze
    private_constant :STATES, :READABLE_ERROR, :READABLE_STATES

    class << self
      # @param task [Task]
      # @param after [Integer] a position
      # @param limit [Integer, nil] maximum number of steps
      # @return [Array<WorkflowStep>] by position
      def of(task, after: -1, limit: nil)
        steps = read(task, after, limit)
        # The steps share one reader of large results, which takes few statements if it reads them in order.
        results = StoredResults.new(task.id, rows: steps.size)
        steps.each { |step| step.instance_variable_set(:@results, results) }
      end

      # A page of steps with their results. It is shorter if these exceed {StoredResults::BYTES} together.
      # @param task [Task]
      # @param after [Integer] a position
      # @param limit [Integer] maximum number of steps
      # @return [Array(Array<WorkflowStep>, Integer)] the steps by position, at least one if any exists; and the
      #   position after which the next page begins, or nil
      def page(task, limit:, after: -1)
        found = of(task, after: after, limit: limit + 1)
        rows = fitting(found.first(limit))
        [rows, (rows.last.position if rows.size < found.size)]
      end

      private

      def read(task, *binds)
        reading_either("the steps of task #{task.id}", STATES, READABLE_STATES) do |sql|
          uncached { find_by_sql([sql, task.id, *binds]) }
        end
      end

      def fitting(steps)
        bytes = 0
        steps.take_while.with_index { |step, index| (bytes += step.result_bytes.to_i) <= StoredResults::BYTES || index.zero? }
      end
    end

    # @return [String]
    def name = self[:name]

    # @return [String] pending, ready, in_progress, waiting, complete, error, cancelled or resolved_manually
    def state = self[:state]

    # @return [Integer] attempts so far, including a running one
    def attempts = self[:attempts]

    # @return [Integer] maximum number of attempts
    def max_attempts = self[:max_attempts]

    # A result larger than {INLINE_BYTES} is read from the database at each call: keep it in a variable to use it twice.
    # @return [Hash, nil] the result of the handler or of an operator's action, or nil
    # @raise [DatabaseError] if it cannot be read
    def result
      return @results[position]&.value unless inline?

      self[:result] if has_attribute?(:result)
    end

    # @return [Integer, nil] length of the result as JSON text
    def result_bytes = self[:result_bytes]

    # @return [Hash, nil] class, message, code and backtrace of the last failure; of a step that waits for repair or
    #   for the job queue, why it does
    def error = self[:last_error]

    # @return [String] the code that runs it: `ChargeCard`, `Checkout#charge`, or `ChargeCardJob.perform_now`
    def handler = task.workflow_version.steps.fetch(position).fetch("handler")

    # @return [Array<Integer>] positions of the steps it depends on
    def dependencies = self[:dependencies]

    # @return [Time, nil] when a waiting step becomes ready
    def run_at = self[:run_at]

    # @return [String, nil] what a waiting step waits for: its next attempt (retry), the task's start time (delay),
    #   capacity (limited), a worker that defines its handler (unknown_handler), a worker that can load the
    #   application's code (not_loaded), the application's job queue (not_enqueued), or repair of damaged rows
    #   (unreadable)
    def waiting_reason = self[:waiting_reason]

    # @return [Integer, nil] the process that runs it
    def claimed_by = self[:claimed_by]

    # @return [Time, nil] when a process claimed it; it counts as running from then on
    def claimed_at = self[:claimed_at]

    # @return [String, nil] how far a step is that runs as a job of the application's queue: `claimed` by the worker
    #   that enqueues it, `enqueued`, or `started`; nil if it is not in progress, or runs in a worker
    def dispatch = self[:dispatch]

    # @return [Boolean] whether it runs as a job that no process has started yet
    def awaits_job? = %w[claimed enqueued].include?(dispatch)

    # @return [RegisteredProcess, nil] the process that runs it, while that is registered
    def process = claimed_by && RegisteredProcess.uncached { RegisteredProcess.find_by(id: claimed_by) }

    # Retries a failed step with its attempts reset, or makes a waiting step ready now.
    #
    # @param reason [String] recorded with the task
    # @param by [#to_s] the actor, recorded with the task
    # @return [self]
    # @raise [TransitionError] if it has not failed and does not wait
    # @raise [InputError] if reason or actor is blank
    def retry!(reason:, by:) = operate(:retry_step, task_id, position, reason: reason, by: by)

    # Releases a step from the process that runs it, without using an attempt. Parameters and errors: {#retry!}.
    # @raise [TransitionError] if no process runs it
    def release!(reason:, by:) = operate(:release_step, task_id, position, reason: reason, by: by)

    # Resolves a step that failed or has not started and was handled elsewhere; its children may run. Parameters and
    # errors: {#retry!}.
    # @raise [TransitionError] if it is done, cancelled, or in progress
    def resolve!(reason:, by:) = operate(:resolve_step, task_id, position, reason: reason, by: by)

    # Completes a step that failed or has not started, with a result for its children. Other parameters and errors:
    # {#resolve!}.
    # @param result [Hash]
    def complete!(result, reason:, by:)
      json = Support::JsonValue.input_json(result, "result")
      operate(:complete_step, task_id, position, json, reason: reason, by: by)
    end

    # Replaces the result of a step that is done; children that start later read the new one. Other parameters and
    # errors: {#retry!}.
    # @param result [Hash]
    # @raise [TransitionError] if it is not done
    def update_result!(result, reason:, by:)
      json = Support::JsonValue.input_json(result, "result")
      operate(:update_result, task_id, position, json, reason: reason, by: by)
    end

    # Alias of {#resolve!}, with the reason as a positional argument.
    def mark_resolved!(reason, by:) = resolve!(reason: reason, by: by)

    # Reads the step anew.
    # @param options [Hash, nil] `lock` as Active Record's, which `lock!` and `with_lock` pass
    # @return [self]
    # @raise [ActiveRecord::RecordNotFound] if it has been removed
    def reload(options = nil)
      lock = options&.dig(:lock)
      self.class.where(task_id: task_id, position: position).lock(lock).pick(:position) if lock
      fresh = self.class.of(Task.without_tags.find(task_id), after: position - 1, limit: 1).first ||
              raise(ActiveRecord::RecordNotFound, "there is no step #{name} of task #{task_id}")
      %i[@attributes @results].each { |name| instance_variable_set(name, fresh.instance_variable_get(name)) }
      self
    end

    private

    # A step that was not loaded by {of} has its whole result.
    def inline?
      @results.nil? || result_bytes.nil? || (result_bytes <= INLINE_BYTES && has_attribute?(:result))
    end
  end
end
