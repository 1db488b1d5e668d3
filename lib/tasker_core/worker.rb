# frozen_string_literal: true

module TaskerCore
  # A worker process: threads that take claimed steps from the orchestrator, run them and deliver the outcomes.
  # Stage 3 of a step's life (docs/walkthrough.md). {Worker::Supervisor} starts it in child processes; a program can
  # also run its own.
  class Worker
    include Support::MonotonicClock

    # @param configuration [Configuration]
    # @param database [Hash] connection settings, with config/database.yml keys; defaults to Active Record's
    # @param name [String] shown in the list of processes
    def initialize(configuration: TaskerCore.config, database: Postgres::Address.current, name: "worker")
      @configuration = configuration
      @database = Postgres::Address.of(database)
      @name = name
      @host = Support::HostApplication.current
      @logs = Logging::Pump.new
      @threads = []
    end

    # Connects and begins to run steps, in threads of its own.
    # @return [self]
    # @raise [DatabaseError, FunctionsMissingError] when the database cannot be reached, or is not prepared
    # @raise [ConfigurationError] when the worker's connections reach another database than Active Record's, or cannot
    #   be used as `database.poll_only` says
    # @raise [UnknownEventError] when a pattern of a durable subscriber matches no durable event
    def start
      outbox = Events::OutboxDispatcher.new(configuration: @configuration)
      @logs.start
      TaskerCore.error_reporter.listen
      address = @database.merge(identity: verify_database)
      @orchestrator = Bridge.start_orchestrator(database: address, configuration: @configuration, name: @name)
      @watchdog = Watchdog.new(grace: @configuration[:leases, :deadline_grace].to_f).start
      start_threads
      @outbox = outbox.start(@orchestrator)
      self
    rescue StandardError # of any part: those that have started are stopped
      stop(timeout: 0)
      raise
    end

    # Stops taking steps and events; running handlers and deliveries continue.
    def drain
      @outbox&.drain
      @orchestrator.drain
    end

    # Drains, waits for running steps and deliveries, releases whatever still runs at the timeout, and disconnects.
    # @param timeout [Numeric] seconds
    def stop(timeout: @configuration[:execution, :shutdown_timeout])
      deadline = now + timeout
      @outbox&.drain
      @orchestrator&.stop(timeout.to_f)
    ensure
      @outbox&.stop(timeout: [deadline - now, 0].max)
      Support::RestartingThread.stop(@threads)
      @watchdog&.stop
      @logs.stop
    end

    # @param id [Integer]
    # @return [TaskHandle] an operator's actions over the worker's own connections
    def task(id) = TaskHandle.new(@orchestrator.task(id))

    # @return [Hash{Symbol => Object}] statistics of this process
    def health = @orchestrator.health

    # @return [Integer] number of running handlers
    def running
      @orchestrator ? health.fetch(:running) : 0
    rescue StoppedError
      0
    end

    private

    # Ensures that the functions are current, and that the worker connects to the same database as Active Record.
    def verify_database
      ApplicationRecord.on_connection do |connection|
        Postgres::Address.identity(connection).tap { Postgres::Functions.ensure_current(connection) }
      end
    end

    def start_threads
      contexts = ContextBuilder.new(@orchestrator, systems: @configuration.systems)
      runner = StepRunner.new(handlers: HandlerRegistry.new(reloading: @host.reloading?), contexts: contexts,
                              watchdog: @watchdog, host: @host, error_reporter: TaskerCore.error_reporter)
      @threads = Array.new(@configuration[:execution, :threads]) do |number|
        Support::RestartingThread.new("tasker-#{number}") { run_loop(runner) }
      end
    end

    def run_loop(runner)
      while (claim = @orchestrator.next_step)
        run_claim(runner, claim)
      end
    end

    # Delivers an outcome even if the thread is killed. A kill just after delivery sends a second one, which is stale.
    def run_claim(runner, claim)
      abandoned = "the thread of the handler was killed"
      runner.run(claim) do |outcome|
        deliver(outcome)
        abandoned = nil
      end
    rescue StandardError => e
      abandoned &&= "the outcome could not be delivered: #{e.message}"
      raise
    ensure
      deliver(runner.abandoned_outcome(claim, abandoned)) if abandoned
    end

    # Drops an outcome whose lease has expired: another attempt may already own the step.
    def deliver(outcome)
      @orchestrator.finish(outcome)
    rescue StaleAttemptError, StoppedError => e
      Instrumentation.instrument("outcome_rejected", error: e)
    end
  end
end
