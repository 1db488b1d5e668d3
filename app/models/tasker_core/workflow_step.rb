# frozen_string_literal: true

module TaskerCore
  # One node of a task, as people see it: ready, in progress and waiting are told by live rows.
  class WorkflowStep < ApplicationRecord
    self.table_name = "tasker_workflow_steps"
    self.primary_key = %i[task_id position]

    belongs_to :task, -> { without_tags }, class_name: "TaskerCore::Task"

    # A result of at most so many bytes of JSON is read with its step, a longer one when it is asked for.
    INLINE_BYTES = 4096

    STATES = <<~SQL.freeze
      select task_id, position, name, state, attempts, max_attempts, pending_parents, dependencies, run_at, waiting_reason, claimed_by,
        claimed_at, result_bytes, case when result_bytes <= #{INLINE_BYTES} then result end as result, last_error
      from tasker_core_v1.step_states(array[?]::bigint[])
      where position > ?
      order by position
      limit ?
    SQL
    # Results are read when they are asked for, errors each by itself.
    READABLE_STATES = STATES.sub(/case when.*last_error/, "tasker_core_v1.readable_error(task_id, position) as last_error").freeze
    private_constant :STATES, :READABLE_STATES

    class << self
      # @param task [Task]
      # @param after [Integer] a position
      # @param limit [Integer, nil] steps at most
      # @return [Array<WorkflowStep>] by position
      def of(task, after: -1, limit: nil)
        steps = read(task, after, limit)
        # Those with long results read them from one place: in their order, that takes few statements.
        results = StoredResults.new(task.id, rows: steps.size)
        steps.each { |step| step.instance_variable_set(:@results, results) }
      end

      # A page of steps with their results: it is shorter where these are longer than {StoredResults::BYTES} together.
      # @param task [Task]
      # @param after [Integer] a position
      # @param limit [Integer] steps at most
      # @return [Array(Array<WorkflowStep>, Integer)] by position, one at least if there is one; and the position after which the
      #   next page begins, or nil
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

    # @return [Integer] executions so far, the one that runs included
    def attempts = self[:attempts]

    # @return [Integer] executions at most
    def max_attempts = self[:max_attempts]

    # One of more than {INLINE_BYTES} is read from the database at each call, as it is by then: what is to be used twice belongs
    # into a variable.
    # @return [Hash, nil] what the step returned, or an operator gave it; nil without one
    # @raise [DatabaseError] when it cannot be read
    def result
      return @results[position]&.value unless inline?

      self[:result] if has_attribute?(:result)
    end

    # @return [Integer, nil] length of the result as JSON text
    def result_bytes = self[:result_bytes]

    # @return [Hash, nil] class, message, code and backtrace of the last failure; of a step that waits for a repair, why the
    #   database cannot read it
    def error = self[:last_error]

    # @return [Array<Integer>] positions of the steps it depends on
    def dependencies = self[:dependencies]

    # @return [Time, nil] before which a waiting step is not ready
    def run_at = self[:run_at]

    # @return [String, nil] why a waiting step waits: for its next attempt (retry), for the time for which its task
    #   was created (delay), for capacity (limited), for a worker that knows its handler (unknown_handler), for
    #   one that can load the application's code (not_loaded), or for a repair of what the database cannot read (unreadable)
    def waiting_reason = self[:waiting_reason]

    # @return [Integer, nil] the process that runs it
    def claimed_by = self[:claimed_by]

    # @return [Time, nil] since when a process has it: it runs from then on
    def claimed_at = self[:claimed_at]

    # @return [RegisteredProcess, nil] the process that runs it, as long as that is registered
    def process = claimed_by && RegisteredProcess.uncached { RegisteredProcess.find_by(id: claimed_by) }

    # Gives a failed step all its attempts again. Parameters and errors of all verbs: {Task#cancel_with_reason!}.
    # @return [self]
    # @raise [TransitionError] when it has not failed
    def reset_attempts!(reason, by:) = changed { Operations::Action.call(:reset_step, task_id, position, reason, by) }

    # Makes a step that waits for its next attempt, or for its time, ready at once.
    # @raise [TransitionError] when it does not wait
    def retry_now!(reason, by:) = changed { Operations::Action.call(:retry_now, task_id, position, reason, by) }

    # Takes a step from the process that runs it, without spending an attempt.
    # @raise [TransitionError] when no process has it
    def release!(reason, by:) = changed { Operations::Action.call(:release_step, task_id, position, reason, by) }

    # Declares a step that failed or has not begun to be dealt with; its children may run.
    # @raise [TransitionError] when it is done, cancelled, or just being run
    def mark_resolved!(reason, by:) = changed { Operations::Action.call(:resolve_step, task_id, position, reason, by) }

    # As {#mark_resolved!}, with a result that its children see.
    # @param result [Hash]
    def complete!(result, reason:, by:)
      changed { Operations::Action.call(:complete_step, task_id, position, Operations::Action.payload(result), reason, by) }
    end

    # Replaces the result of a step that is done; children that start later see it.
    # @param result [Hash]
    # @raise [TransitionError] when it is not done
    def update_result!(result, reason:, by:)
      changed { Operations::Action.call(:update_step_result, task_id, position, Operations::Action.payload(result), reason, by) }
    end

    # As it is now.
    # @return [self]
    def reload(*)
      fresh = self.class.of(Task.without_tags.find(task_id), after: position - 1, limit: 1).first
      %i[@attributes @results].each { |name| instance_variable_set(name, fresh.instance_variable_get(name)) }
      self
    end

    private

    # What was found without this class's own statements has all that there is.
    def inline?
      @results.nil? || result_bytes.nil? || (result_bytes <= INLINE_BYTES && has_attribute?(:result))
    end

    def changed
      yield
      reload
    end
  end
end
