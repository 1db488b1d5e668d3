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
    #   be used as `database.poll_only` says; or when steps run as jobs, and Active Job has no queue for them
    # @raise [UnknownEventError] when a pattern of a durable subscriber matches no durable event
    def start
      outbox = Events::OutboxDispatcher.new(configuration: @configuration)
      @logs.start
      TaskerCore.error_reporter.listen
      role = self.role
      @orchestrator = Connection.start(configuration: @configuration, name: @name, role: role, database: @database)
      @watchdog = Watchdog.new(grace: @configuration[:leases, :deadline_grace].to_f).start
      start_threads
      @enqueuer = Dispatch::Enqueuer.new(@orchestrator, host: @host).start if role == :dispatcher
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
      @enqueuer&.stop
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

    # Dispatches if steps of the application run as jobs, or did when their workflow was stored; where code is reloaded,
    # they may do so later.
    # @return [Symbol]
    def role
      Dispatch.verify!(@configuration)
      return :dispatcher if Dispatch.used?(@configuration)

      Dispatch::Adapter.new.usable? && (@host.reloading? || Dispatch.stored?) ? :dispatcher : :worker
    end

    def start_threads
      attempts = Attempts.new(@orchestrator, configuration: @configuration, watchdog: @watchdog, host: @host)
      @threads = Array.new(@configuration[:execution, :threads]) do |number|
        Support::RestartingThread.new("tasker-#{number}") { run_loop(attempts) }
      end
    end

    def run_loop(attempts)
      while (claim = @orchestrator.next_step)
        attempts.run(claim)
      end
    end
  end
end
