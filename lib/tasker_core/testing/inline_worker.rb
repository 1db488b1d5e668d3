# frozen_string_literal: true

module TaskerCore
  module Testing
    # A worker without threads, on the test's connection: claims a step, runs it, hands its outcome in, and so on. It is what
    # {Worker} and the orchestrator are otherwise.
    class InlineWorker
      # A test that stands still in a debugger must not be given up for dead.
      PATIENCE_MS = 30 * 86_400_000
      SWEEP_LIMIT = 1000
      private_constant :PATIENCE_MS, :SWEEP_LIMIT

      # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter]
      # @param stubs [Stubs]
      def initialize(connection, stubs:, handlers: Worker::HandlerRegistry.new(reloading: true), configuration: TaskerCore.config)
        @connection = connection
        @stubs = stubs
        @handlers = handlers
        @configuration = configuration
      end

      # See {Testing#perform_tasks}.
      def run(only:, limit:)
        @process = register
        performed = []
        others = []
        while (limit.nil? || performed.size < limit) && (claim = next_claim)
          selected?(claim, only) ? performed << perform(claim) : others << key(claim)
        end
        performed
      ensure
        leave(others) if @process && !Savepoint.broken?(@connection)
      end

      private

      def register
        entry = { name: "test", hostname: Socket.gethostname, pid: Process.pid, queues: ["*"],
                  heartbeat_timeout_ms: PATIENCE_MS, lease_grace_ms: PATIENCE_MS }
        call(:register_process, JSON.generate(entry))
      end

      # What was claimed and not run is ready as before.
      def leave(others)
        call(:release_steps, @process, JSON.generate(others), "0", "shutdown") if others.any?
        call(:deregister_process, @process)
      end

      # After the sweep, steps whose time has come are ready.
      def next_claim = claim || (claim if call(:sweep, @process, SWEEP_LIMIT).fetch("due").positive?)

      def claim = call(:claim_steps, @process, ["*"], 1).first

      def selected?(claim, only)
        only.nil? || claim.values_at("namespace", "workflow") == [only.namespace, only.workflow_name]
      end

      # What names a claim.
      def key(claim) = claim.slice("token", "task_id", "position", "attempt")

      def perform(claim)
        handler = RecordingHandler.new(handler(claim))
        outcome = Savepoint.around(@connection) { runner(claim, handler).run(JSON.generate(claim, max_nesting: 0)) }
        outcome = finish(JSON.parse(outcome, max_nesting: false).merge(key(claim)))
        raise handler.raised if handler.ends_test?

        PerformedStep.new(task_id: claim["task_id"], workflow: claim["workflow"], step: claim["step"], attempt: claim["attempt"],
                          outcome: outcome["outcome"], result: outcome["result"], exception: handler.raised)
      end

      def handler(claim)
        @stubs.find(claim) || @handlers.find(claim.fetch("handler")) || raise(MissingHandlerError.of(claim))
      end

      # Not within Rails's executor: the test is in one of its own.
      def runner(claim, handler)
        Worker::StepRunner.new(
          handlers: handler, systems: @configuration.systems,
          watchdog: Worker::Watchdog.new(grace: @configuration[:leases, :deadline_grace].to_f),
          ancestors: ->(_, names, after) { ancestors(claim, names, after) },
          inputs: ->(_) { JSON.generate(call(:task_input, claim["task_id"]), max_nesting: 0) },
          revoked: ->(token) { call(:heartbeat, @process, JSON.generate([key(claim)])).fetch("revoked").include?(token) }
        )
      end

      def ancestors(claim, names, after)
        place = claim.values_at("task_id", "position")
        response = call(:ancestor_results, *place, names, after, @configuration[:execution, :claim_bytes])
        JSON.generate(response, max_nesting: 0)
      end

      # A result that the database refuses ends the step, as `EndedAttempt::unstorable` does for a worker's.
      # @return [Hash{String => Object}] what the database has taken
      def finish(outcome)
        hand_in(outcome)
      rescue InputError => e
        error = { class: "TaskerCore::UnstorableResult", message: "the outcome cannot be stored: #{e.message}" }
        hand_in(**key(outcome), "outcome" => "failed", "error" => error, "retryable" => false)
      end

      def hand_in(outcome)
        response = Savepoint.around(@connection) do
          call(:finish_steps, @process, "[#{JSON.generate(outcome, max_nesting: 0)}]", 0)
        end
        response.fetch("stale").any? ? { "outcome" => "stale" } : outcome
      end

      def call(name, *arguments) = Postgres::Functions.call(@connection, name, *arguments)
    end
  end
end
