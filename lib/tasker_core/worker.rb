# frozen_string_literal: true

module TaskerCore
  # A worker process: threads that take claimed steps from the orchestrator, run them, and hand the outcomes back.
  # Stop 3 of a step's life. The Supervisor starts it in child processes; it also runs in a process of its own.
  class Worker
    include Support::MonotonicClock

    # @param configuration [Configuration]
    # @param database [Hash] the address, with the keys of config/database.yml; by default Active Record's
    # @param name [String] for people
    def initialize(configuration: TaskerCore.config, database: Postgres::Address.current, name: "worker")
      @configuration = configuration
      @database = Postgres::Address.of(database)
      @name = name
      @host = HostApplication.current
      @logs = Logging::Pump.new
      @threads = []
    end

    # Connects and begins to run steps, in threads of its own.
    # @return [self]
    # @raise [DatabaseError, FunctionsMissingError]
    # @raise [ConfigurationError] when the workers' connections do not reach what Active Record's do, or cannot be used as
    #   `database.poll_only` says
    # @raise [UnknownEventError] when a durable subscriber can never be told anything
    def start
      outbox = Events::OutboxDispatcher.new(configuration: @configuration)
      @logs.start
      TaskerCore.error_reporter.listen
      address = @database.merge(identity: verified_identity)
      @orchestrator = Bridge.start_orchestrator(database: address, configuration: @configuration, name: @name)
      @watchdog = Watchdog.new(grace: @configuration[:leases, :deadline_grace].to_f).start
      start_threads
      @outbox = outbox.start(@orchestrator)
      self
    rescue StandardError
      stop(timeout: 0)
      raise
    end

    # Takes no more steps and events; those that run go on.
    def drain
      @outbox&.drain
      @orchestrator.drain
    end

    # Drains, waits for running steps and deliveries up to the timeout (seconds), gives the others back, and leaves the
    # database.
    def stop(timeout: @configuration[:execution, :shutdown_timeout])
      deadline = now + timeout
      @outbox&.drain
      @orchestrator&.stop(timeout.to_f)
    ensure
      @outbox&.stop(timeout: [deadline - now, 0].max)
      RestartingThread.stop(@threads)
      @watchdog&.stop
      @logs.stop
    end

    # @return [Native::Task] for an operator: the verbs of {Task} and {WorkflowStep} on the worker's own connections, for threads
    #   without one of Active Record's, and never in their transaction; results are JSON text
    def task(id) = @orchestrator.task(id)

    # @return [Hash{Symbol => Object}] figures of this process
    def health = @orchestrator.health

    # @return [Integer] handlers that run at the moment
    def running
      @orchestrator ? health.fetch(:running) : 0
    rescue StoppedError
      0
    end

    private

    # Of the database that Active Record is connected to, which has the functions.
    def verified_identity
      ApplicationRecord.on_connection do |connection|
        Postgres::Address.identity(connection).tap { Postgres::Functions.ensure_current(connection) }
      end
    end

    def start_threads
      runner = StepRunner.new(
        handlers: HandlerRegistry.new(reloading: @host.reloading?), host: @host, watchdog: @watchdog,
        systems: @configuration.systems,
        ancestors: @orchestrator.method(:ancestor_results), inputs: @orchestrator.method(:task_input),
        revoked: @orchestrator.method(:revoked?), error_reporter: TaskerCore.error_reporter
      )
      count = @configuration[:execution, :threads]
      @threads = Array.new(count) { |number| RestartingThread.new("tasker-#{number}") { work(runner) } }
    end

    def work(runner)
      while (claim = @orchestrator.next_step)
        attempt(runner, claim)
      end
    end

    def attempt(runner, claim)
      delivered = false
      runner.run(claim) do |outcome|
        deliver(outcome)
        delivered = true
      end
    ensure
      deliver(runner.abandoned_outcome(claim, "the thread of the handler was killed")) unless delivered
    end

    # The lease may be gone meanwhile: then somebody else has the step, and the outcome means nothing.
    def deliver(outcome)
      @orchestrator.finish(outcome)
    rescue StaleAttemptError, StoppedError => e
      Instrumentation.instrument("outcome_rejected", error: e)
    end
  end
end
