# frozen_string_literal: true

module TaskerCore
  # Writes lines with fields to the application's logger: those of {Subscriber}, and Rust's, which {Pump} passes on.
  # docs/logging.md lists fields and settings.
  #
  # @api private
  class Logging
    # The value of `level` and `format` that adopts the logger's own.
    AS_LOGGER = :logger
    FORMATS = { json: Format::Json, human: Format::Human }.freeze
    LEVELS = { debug: Logger::DEBUG, info: Logger::INFO, warn: Logger::WARN, error: Logger::ERROR,
               off: Logger::UNKNOWN }.freeze
    private_constant :AS_LOGGER, :FORMATS, :LEVELS

    # @return [Logger]
    attr_reader :logger
    # @return [Symbol] json or human
    attr_reader :format
    # @return [Integer] lines that may wait to be written
    attr_reader :capacity
    # @return [Hash{Symbol => Object}] added to every line
    attr_reader :fields

    # @param logger [Logger] the application's; its level applies in any case
    # @param level [Symbol, String] debug, info, warn, error or off: the lowest severity that is written; logger: the
    #   logger's
    # @param format [Symbol, String] json or human; logger: json where the logger's formatter is a {JsonFormatter}
    # @param tags [Boolean] whether the application's own lines are tagged with the current work
    # @param capacity [Integer] lines that may wait to be written; Rust drops and counts those beyond it
    # @param fields [Hash] added to every line
    # @param filter [Array] as Rails's `config.filter_parameters`
    # @raise [ConfigurationError]
    def initialize(logger:, capacity:, level: AS_LOGGER, format: AS_LOGGER, tags: true, fields: {}, filter: [])
      @logger = logger
      @level = level.to_sym == AS_LOGGER ? :debug : choice(:level, level, LEVELS.keys)
      @format = format.to_sym == AS_LOGGER ? format_of_logger : choice(:format, format, FORMATS.keys)
      @tags = tags
      @capacity = capacity
      @fields = fields.to_h.transform_keys(&:to_sym).freeze
      @filter = ActiveSupport::ParameterFilter.new(filter)
      @filtering = filter.any?
    end

    # @return [Integer] the lowest severity that is written, as in Logger
    def severity = [LEVELS.fetch(@level), @logger.level].max

    # @param severity [Integer] as in Logger
    # @return [Boolean]
    def writes?(severity) = severity >= LEVELS.fetch(@level) && severity >= @logger.level

    # Writes a line with the fields of a context: passes it to a running {Pump} if its buffer has room, or else writes
    # it in this thread.
    # @param severity [Integer] as in Logger
    # @param message [String]
    # @param fields [Hash{Symbol => Object}]
    # @param context [Correlation::Context, nil]
    def write(severity, message, fields = {}, context: Correlation::Context.current)
      return unless writes?(severity)

      context = (context || NO_CONTEXT).with(correlation_id: Correlation.of_process) unless context&.correlation_id
      return if Pump.active_for?(@logger) && offer(severity, message, context, fields)

      record = Format::Record.new(Time.now, severity, message, context, Process.pid, fields, @fields)
      write_line(severity, FORMATS.fetch(@format).line(record))
    end

    # @return [Boolean] whether the logger writes several joined lines unchanged: then they need one write to the file
    def joins?
      formatters.any? && formatters.all? { |formatter| formatter.call("INFO", Time.now, nil, PROBE) == "#{PROBE}\n" }
    end

    # @param severity [Integer] as in Logger
    # @param text [String] a formatted line
    def write_line(severity, text) = @logger.add(severity, Line.new(text))

    # Tags the application's own lines while the block runs, if its logger supports tags and `logging.tags` is true. A
    # {JsonFormatter} needs no tags: it reads the context.
    # @param context [Correlation::Context]
    # @return [Object] what the block returns
    def around(context, &block)
      return context.within(&block) unless tags?

      tags = context.tags
      context.within do
        @logger.push_tags(*tags)
        yield
      ensure
        @logger.pop_tags(tags.size)
      end
    end

    # @param context [Correlation::Context]
    # @return [Logger] writes lines with this context in any thread
    def logger_for(context)
      tags = context.tags
      return @logger if !taggable? || formatters.any? { |formatter| tagged_with?(tags, formatter) }

      tagged = @logger.tagged(*tags)
      tagged.is_a?(Array) ? ActiveSupport::BroadcastLogger.new(*tagged) : tagged
    end

    # @param payload [Object] an input or a result, of JSON's types
    # @return [Object] a copy with the values hidden that `config.filter_parameters` names
    def filtered(payload)
      return payload unless @filtering

      @filter.filter({ payload: payload }).fetch(:payload)
    end

    # @param name [String] of a parameter
    # @return [Boolean] whether its value is hidden
    def filters?(name) = @filtering && @filter.filter_param(name, "value") != "value"

    # @return [Boolean] whether any value is hidden
    def filtering? = @filtering

    # Passes these settings to Rust.
    def configure_extension
      Bridge.configure_logs(format: @format, capacity: @capacity, fields: @fields,
                            correlation_id: Correlation.of_process)
      update_level
    end

    # Passes the logger's level to Rust: it may change at any time.
    def update_level = Bridge.log_level(severity)

    PROBE = Line.new("{}\n{}").freeze
    NO_CONTEXT = Correlation::Context.new(correlation_id: nil)
    private_constant :PROBE, :NO_CONTEXT

    private

    def offer(severity, message, context, fields)
      duration = fields[:duration_ms]
      others = Format.json(fields) if fields.size > (duration ? 1 : 0)
      Bridge.offer_log(severity, message, context, duration, others)
    end

    def choice(setting, value, allowed)
      name = value.to_sym
      return name if allowed.include?(name)

      raise ConfigurationError.new("logging.#{setting}: #{value.inspect} (#{value.class}) must be one of " \
                                   "#{allowed.join(', ')}")
    end

    def tags? = @tags && taggable?

    def taggable? = @format == :human && @logger.respond_to?(:push_tags)

    def tagged_with?(tags, formatter) = formatter.respond_to?(:current_tags) && (tags - formatter.current_tags).empty?

    def format_of_logger = formatters.any?(JsonFormatter) ? :json : :human

    def formatters
      loggers = @logger.respond_to?(:broadcasts) ? @logger.broadcasts : [@logger]
      loggers.filter_map { |logger| logger.formatter if logger.respond_to?(:formatter) }
    end
  end
end
