# frozen_string_literal: true

module TaskerCore
  module Testing
    # A worker without threads, on the test's connection: claims a step, runs it and records its outcome, one step after
    # the other. It replaces {Worker} and the orchestrator.
    #
    # @api private
    class InlineWorker
      # A test that is stopped in a debugger must not lose its claims.
      PATIENCE_MS = 30 * 86_400_000
      SWEEP_LIMIT = 1000
      START_TIMEOUT = "30 days"
      private_constant :PATIENCE_MS, :SWEEP_LIMIT, :START_TIMEOUT

      # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter]
      # @param stubs [Stubs]
      # @param handlers [Worker::HandlerRegistry]
      # @param configuration [Configuration]
      def initialize(connection, stubs:, handlers: Worker::HandlerRegistry.new(reloading: true),
                     configuration: TaskerCore.config)
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

      # @param others [Array<Hash>] claims that were not run: they become ready again
      def leave(others)
        call(:release_steps, @process, JSON.generate(others), "0", "shutdown") if others.any?
        call(:deregister_process, @process)
      end

      # The sweep makes waiting steps ready whose time has come.
      def next_claim = claim || (claim if call(:sweep, @process, SWEEP_LIMIT).fetch("due_steps").positive?)

      # Steps that run as jobs are run here like all others.
      def claim = claim_within(nil) || claim_within(START_TIMEOUT)

      # @param start_timeout [String, nil] an interval, to claim as a dispatcher does
      def claim_within(start_timeout) = call(:claim_steps, @process, ["*"], 1, start_timeout).first

      def selected?(claim, only)
        only.nil? || claim.values_at("namespace", "workflow") == [only.namespace, only.workflow_name]
      end

      def key(claim) = claim.slice(*ClaimSource::KEY)

      def perform(claim)
        handler = RecordingHandler.new(handler(claim))
        outcome = Savepoint.around(@connection) { runner(claim, handler).run(JSON.generate(claim, max_nesting: 0)) }
        outcome = finish(JSON.parse(outcome, max_nesting: false).merge(key(claim)))
        raise handler.raised if handler.ends_test?

        PerformedStep.new(task_id: claim["task_id"], workflow: claim["workflow"], step: claim["step"],
                          attempt: claim["attempt"], outcome: outcome["outcome"], result: outcome["result"],
                          exception: handler.raised)
      end

      def handler(claim)
        @stubs.find(claim) || @handlers.find(claim.fetch("handler")) || raise(MissingHandlerError.of(claim))
      end

      # Without Rails's executor, in which a test runs already.
      def runner(claim, handler)
        source = ClaimSource.new(@connection, process: @process, claim: claim,
                                              bytes: @configuration[:execution, :claim_bytes])
        Worker::StepRunner.new(
          handlers: handler, contexts: Worker::ContextBuilder.new(source, systems: @configuration.systems),
          watchdog: Worker::Watchdog.new(grace: @configuration[:leases, :deadline_grace].to_f)
        )
      end

      # Fails the step when the database rejects the outcome, as `EndedAttempt::replaced_by_error` does in a worker.
      # @return [Hash{String => Object}] the outcome that was recorded
      def finish(outcome)
        record(outcome)
      rescue InputError => e
        error = { class: "TaskerCore::UnstorableResult", message: "the outcome cannot be stored: #{e.message}" }
        record(**key(outcome), "outcome" => "failed", "error" => error, "retryable" => false)
      end

      def record(outcome)
        response = Savepoint.around(@connection) do
          call(:finish_steps, @process, "[#{JSON.generate(outcome, max_nesting: 0)}]", 0)
        end
        response.fetch("stale").any? ? { "outcome" => "stale" } : outcome
      end

      def call(name, *arguments) = Postgres::Functions.call(@connection, name, *arguments)
    end
  end
end
