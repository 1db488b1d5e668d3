# frozen_string_literal: true

module TaskerCore
  # Writes lines with fields to the application's logger: those of {Subscriber}, and those of Rust that {Pump} brings.
  # docs/logging.md lists fields and settings.
  class Logging
    # As the logger is.
    AS_LOGGER = :logger
    FORMATS = { json: Format::Json, human: Format::Human }.freeze
    LEVELS = { debug: Logger::DEBUG, info: Logger::INFO, warn: Logger::WARN, error: Logger::ERROR, off: Logger::UNKNOWN }.freeze
    private_constant :AS_LOGGER, :FORMATS, :LEVELS

    # @return [Logger]
    attr_reader :logger
    # @return [Symbol] json or human
    attr_reader :format
    # @return [Integer] lines that may wait until they are written
    attr_reader :capacity
    # @return [Hash{Symbol => Object}] go into every line
    attr_reader :fields

    # @param logger [Logger] the application's; its level holds in any case
    # @param level [Symbol, String] debug, info, warn, error or off: nothing below it, whatever the logger takes; or logger
    # @param format [Symbol, String] json or human; or logger: json where the logger's formatter is a {JsonFormatter}
    # @param tags [Boolean] whether the application's own lines are tagged with what is being worked at
    # @param capacity [Integer] lines that may wait; what of Rust's comes when it is full is counted and told
    # @param fields [Hash] go into every line
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

    # @return [Integer] as Logger counts: what is below is written nowhere
    def severity = [LEVELS.fetch(@level), @logger.level].max

    def writes?(severity) = severity >= LEVELS.fetch(@level) && severity >= @logger.level

    # Writes a line with the fields of the current context: in this thread, unless one that writes has room for it.
    # @param severity [Integer] as Logger counts
    # @param fields [Hash{Symbol => Object}]
    # @param context [Context, nil]
    def write(severity, message, fields = {}, context: Context.current)
      return unless writes?(severity)

      context = (context || NO_CONTEXT).with(correlation_id: Correlation.of_process) unless context&.correlation_id
      return if Pump.active_for?(@logger) && Bridge.offer_log(severity, message, context, fields)

      record = Format::Record.new(Time.now, severity, message, context, Process.pid, fields, @fields)
      write_line(severity, FORMATS.fetch(@format).line(record))
    end

    # Whether the logger writes several lines as it writes one: then they cost one write to the file together.
    def joins? = formatters.any? && formatters.all? { |formatter| formatter.call("INFO", Time.now, nil, PROBE) == "#{PROBE}\n" }

    # @param text [String] in its final form
    def write_line(severity, text) = @logger.add(severity, Line.new(text))

    # Tags the lines that the application writes while the block runs, where its logger tags and `logging.tags` is true. A
    # {JsonFormatter} knows the context by itself.
    # @param context [Context]
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

    # @param context [Context]
    # @return [Logger] whose lines have the context in whatever thread
    def logger_for(context)
      tags = context.tags
      return @logger if !taggable? || formatters.any? { |formatter| tagged_with?(tags, formatter) }

      tagged = @logger.tagged(*tags)
      tagged.is_a?(Array) ? ActiveSupport::BroadcastLogger.new(*tagged) : tagged
    end

    # @param payload [Object] an input or a result, as JSON has it
    # @return [Object] the same without the values that the application's `config.filter_parameters` name
    def filtered(payload)
      return payload unless @filtering

      @filter.filter({ payload: payload }).fetch(:payload)
    end

    # @param name [String] of a parameter
    def filters?(name) = @filtering && @filter.filter_param(name, "value") != "value"

    def filtering? = @filtering

    # Makes Rust write as this says.
    # @api private
    def configure_extension
      Bridge.configure_logs(format: @format, capacity: @capacity, fields: @fields, correlation_id: Correlation.of_process)
      update_level
    end

    # A logger's level may change at any time.
    # @api private
    def update_level = Bridge.log_level(severity)

    PROBE = Line.new("{}\n{}").freeze
    NO_CONTEXT = Context.new(correlation_id: nil)
    private_constant :PROBE, :NO_CONTEXT

    private

    def choice(setting, value, allowed)
      name = value.to_sym
      return name if allowed.include?(name)

      raise ConfigurationError.new("logging.#{setting}: #{value.inspect} (#{value.class}) must be one of #{allowed.join(', ')}")
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
