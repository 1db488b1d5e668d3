# frozen_string_literal: true

module TaskerCore
  # One run of a workflow. Each call reads its state, status, results and steps anew.
  class Task < ApplicationRecord
    include Support::MonotonicClock
    include Operations::Operable

    self.table_name = "tasker_tasks"

    ENDED = %w[complete error cancelled resolved_manually].freeze
    STATES = (%w[pending in_progress] + ENDED).freeze
    # Values of {#execution_status}.
    STATUSES = %w[blocked_by_failures has_ready_steps processing waiting_for_repair waiting_for_handler waiting_for_code
                  waiting_for_queue waiting_for_retry waiting_for_capacity scheduled all_complete
                  waiting_for_dependencies cancelled resolved_manually].freeze
    LARGEST_ID = (2**63) - 1
    FIRST_PAUSE = 0.002
    LONGEST_PAUSE = 0.1
    private_constant :LARGEST_ID, :FIRST_PAUSE, :LONGEST_PAUSE

    belongs_to :workflow_version, -> { without_definition }, class_name: "TaskerCore::WorkflowVersion"
    has_many :attempts, -> { order(:token) }, class_name: "TaskerCore::StepAttempt", inverse_of: :task
    has_many :events, -> { order(:id) }, class_name: "TaskerCore::TaskEvent", inverse_of: :task

    # Omits the tags, which may be large, and so damaged apart from the rest of the row: {#tags} reads them when needed.
    # @api private
    scope :without_tags, -> { select(column_names - ["tags"]) }

    # Finds a task by its UUID or number. It reads no tags, so that operators can act on a task whose tags cannot be
    # read.
    # @param name [String, Integer] the public id (a UUID), or the number
    # @return [Task]
    # @raise [TaskNotFoundError] if no task has that name
    def self.lookup(name)
      key = name.to_s
      found = if key.match?(Correlation::UUID) then without_tags.find_by(uuid: key)
              elsif key.match?(/\A\d{1,19}\z/) && key.to_i <= LARGEST_ID then without_tags.find_by(id: key.to_i)
              end
      found || raise(TaskNotFoundError.new("there is no task #{key.truncate(80)}: use the number or the uuid of a task",
                                           facts: { "task" => key }))
    end

    # The status of several tasks, with one statement.
    # @param tasks [Array<Task>]
    # @return [Hash{Integer => Hash{String => Object}}] {#execution_context} by id
    def self.execution_contexts(tasks)
      ids = PG::TextEncoder::Array.new.encode(tasks.map(&:id))
      uncached do
        find_by_sql(["select * from #{Postgres::Functions::SCHEMA}.task_execution_contexts(?::bigint[])", ids])
          .to_h { |row| [row["task_id"], row.attributes] }
      end
    end

    # @return [String] pending, in_progress, complete, error, cancelled or resolved_manually
    def state = execution_context.fetch("state")

    # @return [String] the first of {STATUSES} that applies: a step failed permanently; a step is ready; a step runs;
    #   all active steps wait: for repair of damaged rows, for a worker that defines the handler, for code that can be
    #   loaded, for the job queue, for the next attempt, for capacity, or for the task's start time
    def execution_status = execution_context.fetch("execution_status")

    # @return [Hash{String => Object}] state, status, counts of steps, the time at which the next waiting step is due,
    #   seconds since its creation (until its end, if it has ended), and seconds that its attempts ran, together
    # @raise [TaskNotFoundError] if the task has been removed
    def execution_context
      self.class.uncached do
        sql = "select * from #{Postgres::Functions::SCHEMA}.task_execution_context(?)"
        self.class.find_by_sql([sql, id]).first&.attributes || raise(gone)
      end
    end

    # Includes results of up to {WorkflowStep::INLINE_BYTES}; {WorkflowStep#result} reads larger ones.
    # @return [Array<WorkflowStep>] in an order in which every parent comes first
    def steps = WorkflowStep.of(self)

    # @param name [String, Symbol]
    # @return [WorkflowStep]
    # @raise [UnknownStepError] with the nearest name, if no step has that name
    def step(name)
      positions = (workflow_version || raise(gone)).positions
      position = positions.fetch(name.to_s) do
        raise UnknownStepError.of(name, positions.keys, "is not a step of task #{id}")
      end
      WorkflowStep.of(self, after: position - 1, limit: 1).first || raise(gone)
    end

    # Loads all results into memory. If they may be many or large, use {#each_result}.
    # @return [Hash{String => Hash}] by step name, of the steps that are done
    # @raise [DatabaseError] that names the step whose result cannot be read
    def results = each_result.to_h

    # Reads the results of the steps that are done in parts: each statement returns at most 4 MiB, or a single larger
    # result, and only what the block keeps stays in memory. Each part shows the results at the time when it is read.
    # @yieldparam name [String] of the step
    # @yieldparam result [Hash]
    # @return [Enumerator, self] an Enumerator if no block is given
    # @raise [DatabaseError] that names the step whose result cannot be read
    # @example
    #   task.each_result { |name, result| file.puts(JSON.generate(name => result)) }
    def each_result
      return enum_for(:each_result) unless block_given?

      StoredResults.new(id).each { |result| yield result.name, result.value }
      self
    end

    # @return [Array<String>]
    # @raise [UnreadableError] if the database cannot read them
    # @raise [TaskNotFoundError] if the task has been removed before they were read
    def tags
      return super if has_attribute?(:tags)

      @tags ||= read("tags") { self.class.where(id: id).pick(:tags) } || raise(gone)
    end

    # @return [Hash{String => Object}]
    # @raise [UnreadableError] if the database cannot read it
    def input = read("input") { TaskInput.find(id).input }

    # @return [String, nil]
    # @raise [UnreadableError] if the database cannot read it
    def idempotency_key
      sql = "select idempotency_key from tasker_idempotency_keys where task_id = #{Integer(id)}"
      read("idempotency key") { self.class.on_connection { |connection| connection.select_value(sql) } }
    end

    # @api private
    # @return [Array<String>] the fields that a filter needs and the database cannot read
    attr_writer :unreadable

    # @api private
    def unreadable = @unreadable || []

    # Reads the task anew, without {#tags}, which are read when needed.
    # @param options [Hash, nil] `lock` as Active Record's, which `lock!` and `with_lock` pass
    # @return [self]
    def reload(options = nil)
      fresh = self.class.uncached { self.class.unscoped.without_tags.lock(options&.dig(:lock) || false).find(id) }
      %i[@attributes @association_cache].each { |name| instance_variable_set(name, fresh.instance_variable_get(name)) }
      @tags = nil
      self
    end

    # Whether the task has ended. It reads only the task's row.
    # @raise [TaskNotFoundError] if the task has been removed
    def ended? = ENDED.include?(self.class.uncached { self.class.where(id: id).pick(:state) } || raise(gone))

    # Whether the idempotency key was taken: this is the first task with the key, and no new task was created.
    def existing? = @existing || false

    # @api private
    def dup_as_existing = dup_with { @existing = true }

    # Cancels a task that has not ended. A handler that still runs sees this in {StepContext#cancelled?}, and cannot
    # finish its step.
    #
    # @param reason [String] recorded with the task
    # @param by [#to_s] the actor, recorded with the task
    # @return [self]
    # @raise [TransitionError] if the task has ended
    # @raise [InputError] if reason or actor is blank
    def cancel!(reason:, by:) = operate(:cancel_task, id, reason: reason, by: by)

    # Retries all failed steps with their attempts reset, and the task continues. If none has failed, makes all waiting
    # steps ready now. Parameters and errors: {#cancel!}.
    # @raise [TransitionError] if no step has failed or waits
    def retry!(reason:, by:) = operate(:retry_task, id, reason: reason, by: by)

    # Resolves a task that ended with an error and was handled elsewhere: it no longer counts as failed. Parameters and
    # errors: {#cancel!}.
    # @raise [TransitionError] unless it ended with an error
    def resolve!(reason:, by:) = operate(:resolve_task, id, reason: reason, by: by)

    # Alias of {#cancel!}, with the reason as a positional argument.
    def cancel_with_reason!(reason, by:) = cancel!(reason: reason, by: by)

    # Alias of {#retry!}, with the reason as a positional argument.
    def reset_attempts!(reason, by:) = retry!(reason: reason, by: by)

    # Waits until the task has ended.
    #
    # @param timeout [Numeric] seconds
    # @yield before each poll, to show the progress
    # @return [self]
    # @raise [WaitTimeoutError] if it has not ended by then
    def wait(timeout:)
      deadline = now + timeout
      pause = FIRST_PAUSE
      until ended?
        yield if block_given?
        left = deadline - now
        raise WaitTimeoutError.new("task #{id} has not ended within #{timeout} s: #{execution_status}") if left <= 0

        sleep [pause, left].min
        pause = [pause * 1.5, LONGEST_PAUSE].min
      end
      self
    end

    # @return [String] the public id
    def to_param = uuid

    private

    def read(part, &block) = self.class.reading("the #{part} of task #{id}") { self.class.uncached(&block) }

    def gone = TaskNotFoundError.new("there is no task #{id}")

    def dup_with(&block) = self.class.instantiate(attributes_before_type_cast).tap { |copy| copy.instance_exec(&block) }
  end
end
