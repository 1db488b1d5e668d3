# frozen_string_literal: true

module TaskerCore
  # A formatter for the application's own logger: writes each line as one JSON object with the same fields as the gem's
  # lines, so that the lines of handlers, jobs and requests have the correlation id too. Tags become a field of their
  # own.
  #
  # @example config/environments/production.rb
  #   config.log_formatter = TaskerCore::JsonFormatter.new(fields: { service: "shop" })
  class JsonFormatter < ::Logger::Formatter
    SEVERITIES = { "DEBUG" => 0, "INFO" => 1, "WARN" => 2, "ERROR" => 3, "FATAL" => 4 }.freeze
    private_constant :SEVERITIES

    # @api private
    # Replaces TaggedLogging's `call`, which would write tags before the message and so break the JSON.
    module Tags
      def call(severity, time, progname, message) = line(severity, time, progname, message, current_tags)
    end
    private_constant :Tags

    # @param fields [Hash] added to every line
    def initialize(fields: {})
      super()
      @fields = fields.to_h.transform_keys(&:to_sym).freeze
    end

    # @param severity [String] as in Logger
    # @param time [Time]
    # @param progname [String, nil]
    # @param message [String, Exception, Object]
    # @return [String] a line
    def call(severity, time, progname, message) = line(severity, time, progname, message, [])

    # @api private called by TaggedLogging with its module
    # @return [self]
    def extend(*modules)
      super
      singleton_class.prepend(Tags) if modules.include?(ActiveSupport::TaggedLogging::Formatter)
      self
    end

    private

    def line(severity, time, progname, message, tags)
      return "#{message}\n" if message.is_a?(Logging::Line) && message.start_with?("{")

      context = Correlation::Context.current || Correlation::Context.new(correlation_id: Correlation.of_process)
      fields = { progname: progname, tags: tags.dup }.reject { |_, value| value.blank? }.merge(error_of(message))
      record = Logging::Format::Record.new(time, SEVERITIES.fetch(severity.to_s, 5), text(message), context,
                                           Process.pid, fields, @fields)
      "#{Logging::Format::Json.line(record)}\n"
    end

    def text(message)
      case message
      when String then message
      when Exception then message.message
      else message.inspect
      end
    end

    def error_of(message)
      message.is_a?(Exception) ? { "error.class": message.class.name, "error.message": message.message } : {}
    end
  end
end
