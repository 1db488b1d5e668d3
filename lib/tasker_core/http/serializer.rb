# frozen_string_literal: true

module TaskerCore
  module HTTP
    # Converts records to hashes for the responses of the API and for `--json` of the command line. Times are ISO 8601
    # in UTC.
    #
    # @api private
    module Serializer
      module_function

      # @param tasks [Array<Task>] with their workflow versions; one statement reads the status of all
      # @param tags [Boolean] whether with their tags
      # @return [Array<Hash>] see {task}
      def tasks(tasks, tags: true)
        contexts = Task.execution_contexts(tasks)
        tasks.filter_map { |task| contexts[task.id]&.then { |context| summary(task, context, tags: tags) } }
      end

      # @param task [Task]
      # @return [Hash{Symbol => Object}] identity, status, and counts of steps
      def task(task) = summary(task, task.execution_context)

      # @param steps [Array<WorkflowStep>] the steps to include
      # @param results [Boolean] see {steps}
      # @return [Hash{Symbol => Object}] {task} with input, steps, and operator actions
      def task_with_steps(task, steps = task.steps, results: true)
        with_unreadable(task(task), idempotency_key: -> { task.idempotency_key }, input: -> { task.input },
                                    steps: -> { steps(task, steps, results: results) }, events: -> { events(task) })
      end

      # @param steps [Array<WorkflowStep>] the steps to include
      # @param results [Boolean] whether to include the results, all of which are in memory then
      # @return [Array<Hash>] state, attempts, result, error, and times of the current run of each step
      def steps(task, steps = task.steps, results: true)
        names = task.workflow_version.names
        runs = runs_of(task, steps)
        processes = processes_of(steps)
        represented = steps.map { |step| step_of(step, names, runs[step.position], processes) }
        return represented unless results

        represented.zip(steps).map { |hash, step| with_unreadable(hash, result: -> { step.result }) }
      end

      # @param step [WorkflowStep]
      # @return [Hash{Symbol => Object}] as in {steps}, with all attempts
      def step(step)
        attempts = attempts_of(step.task, step.position)
        steps(step.task, [step]).first.merge(executions: attempts(step.task, attempts))
      end

      # @param task [Task]
      # @param attempts [Array<StepAttempt>] the attempts to include: by default all of every step, running ones
      #   included
      # @return [Array<Hash>] in the order of the claims
      def attempts(task, attempts = attempts_of(task))
        names = task.workflow_version.names
        attempts.map { |attempt| attempt(attempt, names) }
      end

      # @param version [WorkflowVersion]
      # @param definition [Boolean] whether with its definition
      # @return [Hash{Symbol => Object}]
      def workflow(version, definition: false)
        parts = { description: -> { version.description } }
        parts[:definition] = -> { version.definition } if definition
        with_unreadable({ namespace: version.namespace, name: version.name, version: version.version,
                          digest: version.digest, steps: version.step_count, created_at: time(version.created_at) },
                        parts)
      end

      # What the database cannot read is null, and `unreadable` names it.
      # @param parts [Hash{Symbol => Proc}]
      def with_unreadable(hash, parts)
        unreadable = [*hash[:unreadable]]
        read = parts.to_h do |name, part|
          [name, part.call]
        rescue UnreadableError
          unreadable << name.to_s
          [name, nil]
        end
        { **hash, **read, **(unreadable.empty? ? {} : { unreadable: unreadable.uniq }) }
      end

      def summary(task, context, tags: true)
        unreadable = task.unreadable.empty? ? {} : { unreadable: task.unreadable }
        with_unreadable({ **description(task, context), **unreadable }, tags ? { tags: -> { task.tags } } : {})
      end

      def description(task, context)
        version = task.workflow_version
        { id: task.id, uuid: task.uuid, namespace: version.namespace, workflow: version.name, version: version.version,
          state: context.fetch("state"), execution_status: context.fetch("execution_status"), priority: task.priority,
          correlation_id: task.correlation_id, parent_correlation_id: task.parent_correlation_id,
          created_at: time(task.created_at), ended_at: time(task.ended_at),
          elapsed_ms: milliseconds(context.fetch("elapsed_seconds")),
          running_ms: milliseconds(context.fetch("running_seconds")), next_run_at: time(context["next_run_at"]),
          counts: counts(context) }
      end

      def counts(context)
        kinds = %w[total completed failed ready in_progress waiting]
        kinds.to_h { |kind| [kind.to_sym, context.fetch("#{kind}_steps")] }
      end

      # The attempt of a running step counts and has started, but has no end.
      def step_of(step, names, run, processes)
        { name: step.name, position: step.position, state: step.state, depends_on: names.values_at(*step.dependencies),
          attempts: step.attempts, max_attempts: step.max_attempts, run_at: time(step.run_at),
          waiting_reason: step.waiting_reason, process_id: step.claimed_by, process: processes[step.claimed_by],
          claimed_at: time(step.claimed_at), dispatch: step.dispatch, error: step.error,
          started_at: time(run&.started_at), finished_at: time(run&.finished_at),
          running_ms: milliseconds(run ? run.seconds : 0) }
      end

      def attempt(attempt, names)
        { step: names[attempt.position], attempt: attempt.attempt, outcome: attempt.outcome,
          process_id: attempt.process_id, ready_at: time(attempt.ready_at), claimed_at: time(attempt.claimed_at),
          started_at: time(attempt.started_at), finished_at: time(attempt.finished_at),
          duration_ms: milliseconds(attempt.seconds), error: attempt.error }
      end

      def attempts_of(task, positions = nil)
        attempts = StepAttempt.with_running([task]).order(:token)
        StepAttempt.uncached { StepAttempt.list(positions ? attempts.where(position: positions) : attempts) }
      end

      # The current run of each step by position: since its last retry by an operator.
      def runs_of(task, steps)
        StepAttempt.uncached do
          StepAttempt.current_runs([task]).where(position: steps.map(&:position)).index_by(&:position)
        end
      end

      # The processes of running steps, by id.
      def processes_of(steps)
        ids = steps.filter_map(&:claimed_by).uniq
        return {} if ids.empty?

        RegisteredProcess.uncached { RegisteredProcess.where(id: ids).to_a }.to_h do |process|
          [process.id, { name: process.name, hostname: process.hostname, pid: process.pid }]
        end
      end

      def events(task)
        names = task.workflow_version.names
        events = ApplicationRecord.reading("the events of task #{task.id}") { task.events.to_a }
        events.map do |event|
          { action: event.action, step: names[event.position], by: event.actor, reason: event.reason,
            at: time(event.created_at) }
        end
      end

      def time(time) = time&.utc&.iso8601(6)

      def milliseconds(seconds) = (seconds * 1000).round(3)

      private_class_method :with_unreadable, :summary, :description, :counts, :step_of, :attempt, :attempts_of,
                           :runs_of, :processes_of, :events, :time, :milliseconds
    end
  end
end
