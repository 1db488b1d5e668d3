# frozen_string_literal: true

# Loads the extension: the only Ruby file that names it. `ext/README.md` explains the seam.
module TaskerCore
  # A precompiled gem has one library for each version of Ruby.
  precompiled = Dir.glob("#{__dir__}/*/tasker_core.{so,bundle}").any?
  begin
    require precompiled ? "tasker_core/#{RUBY_VERSION[/\A\d+\.\d+/]}/tasker_core" : "tasker_core/tasker_core"
  rescue LoadError => e
    remedy = "run `bundle exec rake compile` in the gem's checkout, or `gem pristine tasker_core`"
    if precompiled
      remedy = "compile it on installation: `gem \"tasker_core\", force_ruby_platform: true` in the Gemfile, or " \
               "`gem install tasker_core --platform ruby`"
    end
    raise NativeMissingError.new("the extension of tasker_core is not built for Ruby #{RUBY_VERSION} (#{e.message}): " \
                                 "#{remedy}")
  end

  # Rust's last lines must not be lost. A forked child inherits this hook and has lines of its own.
  at_exit do
    TaskerCore.flush_logs
  rescue ConfigurationError
    # Rust writes no lines before the settings are valid. Raised here, the error would change the exit status.
  end

  # @api private What the rest of the gem calls: it passes JSON text and gets Ruby values.
  module Bridge
    module_function

    # @return [String] the extension's version, which differs from the gem's if another build is loaded
    def version = Native::VERSION

    # @param sources [Hash] file, environment, variables, overrides; see `ext/orchestrator/src/configuration.rs`
    # @return [Native::Configuration]
    # @raise [ConfigurationError] with every problem
    def configuration(sources) = Native::Configuration.load(Support::JsonValue.json(sources))

    # @param definition [Hash] a workflow, with the keys of YAML files
    # @param configuration [Configuration]
    # @return [Native::CompiledWorkflow]
    # @raise [WorkflowError] with every problem
    def compile(definition, configuration: TaskerCore.config)
      Native::CompiledWorkflow.compile(Support::JsonValue.json(definition), configuration.native)
    rescue JSON::JSONError => e
      raise WorkflowError.new("the definition cannot be written as JSON: #{e.message}")
    end

    # @param configuration [Configuration]
    # @return [Native::EventPublisher] of this process
    # @raise [ConfigurationError]
    def event_publisher(configuration) = Native::EventPublisher.create(configuration.native)

    # Connects, registers this process in the database and begins to claim steps.
    #
    # @param database [Hash] the address, see {Postgres::Address.of}
    # @param configuration [Configuration]
    # @param name [String] shown in the list of processes
    # @param role [Symbol] `:worker`, `:dispatcher` or `:jobs`
    # @param events [Events] where it publishes the events of steps and tasks
    # @return [Native::Orchestrator]
    # @raise [DatabaseError] without a connection
    def start_orchestrator(database:, configuration:, name:, role: :worker, events: TaskerCore.events)
      process = { name: name, hostname: Socket.gethostname, pid: Process.pid, role: role }
      place = { database: database, process: process }
      Native::Orchestrator.start(Support::JsonValue.json(place), configuration.native, events.native)
    end

    # @return [String] a UUID of version 7
    def fresh_correlation_id = Native.fresh_correlation_id

    # Configures Rust's log lines.
    # @param settings [Hash] format, capacity, fields, correlation_id
    # @raise [ConfigurationError]
    def configure_logs(**settings) = Native::Logs.configure(Support::JsonValue.json(settings))

    # @param severity [Integer] as in Logger: Rust formats no line below it
    def log_level(severity) = Native::Logs.set_level(severity)

    # Waits for log lines, without Ruby's lock.
    # @param seconds [Float] at most
    def wait_for_logs(seconds) = Native::Logs.wait(seconds)

    # Ends {wait_for_logs}.
    def wake_logs = Native::Logs.wake

    # Adds a line of Ruby's to Rust's lines, if the buffer has room.
    # @param severity [Integer] as in Logger
    # @param message [String]
    # @param context [Correlation::Context] with a correlation id
    # @param duration [Float, nil] milliseconds
    # @param fields [String, nil] JSON text of an object: the line's own fields
    # @return [Boolean] whether the buffer had room
    def offer_log(severity, message, context, duration = nil, fields = nil)
      Native::Logs.offer({ severity: severity, message: message, correlation_id: context.correlation_id,
                           task_id: context.task_id, workflow: context.workflow, step: context.step,
                           attempt: context.attempt, duration_ms: duration, fields: fields })
    end

    # @param join [Boolean] whether consecutive lines of one severity may become one text
    # @return [Array(Array(Array(Integer, String)), Integer)] severity and text of the waiting lines, without waiting
    #   for more; and how many lines were dropped since the last call
    def take_logs(join: false) = Native::Logs.take(join)
  end
end
