# frozen_string_literal: true

# The door to the extension: the only Ruby file that names it. `ext/README.md` explains the seam.
module TaskerCore
  begin
    require "tasker_core/tasker_core"
  rescue LoadError => e
    raise NativeMissingError.new(
      "the extension of tasker_core is not built for Ruby #{RUBY_VERSION} (#{e.message}): run `bundle exec rake compile` in " \
      "the gem's checkout, or `gem pristine tasker_core`"
    )
  end

  # What Rust has said last must not be lost. A forked child inherits this, and has lines of its own.
  at_exit do
    Logging::Pump.flush
  rescue ConfigurationError
    # Rust has said nothing: it writes lines once the settings are in order. Raised here, it would change the exit status.
  end

  # @api private What the rest of the gem calls; JSON text goes in, Ruby values come out.
  module Bridge
    module_function

    # @return [String] of the extension: the gem's, unless another build of it is in the way
    def version = Native::VERSION

    # @param sources [Hash] file, environment, variables, overrides; see `ext/orchestrator/src/configuration.rs`
    # @return [Native::Configuration]
    # @raise [ConfigurationError] with every problem
    def configuration(sources) = Native::Configuration.load(JsonValue.json(sources))

    # @param definition [Hash] a workflow as people write it
    # @return [Native::CompiledWorkflow]
    # @raise [WorkflowError] with every problem
    def compile(definition, configuration: TaskerCore.config)
      Native::CompiledWorkflow.compile(JsonValue.json(definition), configuration.native)
    rescue JSON::JSONError => e
      raise WorkflowError.new("the definition cannot be written as JSON: #{e.message}")
    end

    # @return [Native::EventPublisher] of this process
    # @raise [ConfigurationError]
    def event_publisher(configuration) = Native::EventPublisher.create(configuration.native)

    # Connects, enters this process in the database, and begins to claim.
    #
    # @param database [Hash] address, with the keys of config/database.yml or as {Postgres::Address} answers it
    # @param name [String] for people who look at the list of processes
    # @param events [Events] where it tells what becomes of steps and tasks
    # @return [Native::Orchestrator]
    # @raise [DatabaseError] when there is no connection
    def start_orchestrator(database:, configuration:, name:, events: TaskerCore.events)
      process = { name: name, hostname: Socket.gethostname, pid: Process.pid }
      place = { database: Postgres::Address.of(database), process: process }
      Native::Orchestrator.start(JsonValue.json(place), configuration.native, events.native)
    end

    # @return [String] a UUID of version 7
    def fresh_correlation_id = Native.fresh_correlation_id

    # Makes Rust write its log lines so.
    # @param settings [Hash] format, capacity, fields, correlation_id
    # @raise [ConfigurationError]
    def configure_logs(**settings) = Native::Logs.configure(JsonValue.json(settings))

    # @param severity [Integer] as Logger counts: what is below is not even formatted
    def log_level(severity) = Native::Logs.set_level(severity)

    # Waits, without Ruby's lock, until there are lines.
    # @param seconds [Float] at most
    def wait_for_logs(seconds) = Native::Logs.wait(seconds)

    # Ends {wait_for_logs}.
    def wake_logs = Native::Logs.wake

    # Adds a line of Ruby's own, to be taken with Rust's, if there is room.
    # @param severity [Integer] as Logger counts
    # @param context [Logging::Context] with a correlation id
    # @param fields [Hash{Symbol => Object}]
    # @return [Boolean] whether there was
    def offer_log(severity, message, context, fields)
      duration = fields[:duration_ms]
      others = Logging::Format.json(fields) if fields.size > (duration ? 1 : 0)
      Native::Logs.offer({ severity: severity, message: message, correlation_id: context.correlation_id,
                           task_id: context.task_id, workflow: context.workflow, step: context.step,
                           attempt: context.attempt, duration_ms: duration, fields: others })
    end

    # @param join [Boolean] whether lines that follow each other at one severity may become one text
    # @return [Array(Array(Array(Integer, String)), Integer)] severity and text, at once; and how many lines were dropped
    #   since the last time
    def take_logs(join: false) = Native::Logs.take(join)
  end
end
