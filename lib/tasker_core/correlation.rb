# frozen_string_literal: true

module TaskerCore
  # The correlation id: a UUID that follows a task, and the request or job that created it, through every process and
  # log line. docs/logging.md describes how it travels.
  module Correlation
    # The environment variable that carries the id into a child process.
    VARIABLE = "TASKER_CORRELATION_ID"

    UUID = /\A\h{8}(-\h{4}){3}-\h{12}\z/

    module_function

    # @return [String, nil] the id of the current step, request, job or block; or the one that this process was started
    #   with
    def current = Context.current&.correlation_id || started_with

    # @return [String] the header of requests and responses that carries the id: `correlation.header`
    # @raise [ConfigurationError]
    def header = TaskerCore.config[:correlation, :header]

    # Makes an id current while the block runs.
    # @param id [String, nil] see {adopt}; nil generates one
    # @return [Object] what the block returns
    def within(id, &block)
      id = id ? adopt(id) : fresh
      (Context.current&.with(correlation_id: id) || Context.new(correlation_id: id)).within(&block)
    end

    # Converts an id from outside to a UUID. A UUID of any version is kept, in lower case. Any other text is hashed, so
    # that the same text has the same UUID everywhere: version 5 of `correlation-id:TEXT` in the URL namespace. A log
    # line records the text with its UUID.
    #
    # @param text [String]
    # @return [String] a new UUID for blank text
    def adopt(text)
      given = text.to_s.b.strip
      return given.force_encoding(Encoding::UTF_8).downcase if given.match?(UUID)
      return fresh if given.empty?

      derived(given).tap { |id| Instrumentation.instrument("correlation_id_adopted", id: id, text: given) }
    end

    # @return [String] a new UUID of version 7
    def fresh = Bridge.fresh_correlation_id

    # @return [Hash{String => String}] environment variables that carry the current id into a child process
    # @example
    #   system(TaskerCore::Correlation.environment, "bin/report", "7")
    def environment = { VARIABLE => current }.compact

    # @api private
    # @return [String] the id of this process's lines outside any step, request, job or block
    def of_process
      pid, id = @of_process
      return id if pid == Process.pid

      id = started_with || fresh
      @of_process = [Process.pid, id].freeze
      id
    end

    def started_with
      text = ENV[VARIABLE]
      return if text.nil? || text.empty?

      given, id = @started_with
      return id if given == text

      adopt(text).tap { |adopted| @started_with = [text, adopted].freeze }
    end

    def derived(bytes) = Digest::UUID.uuid_v5(Digest::UUID::URL_NAMESPACE, "correlation-id:".b + bytes)
    private_class_method :started_with, :derived
  end
end
