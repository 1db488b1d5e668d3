# frozen_string_literal: true

require "net/http"

module TaskerCore
  # A service that handlers call, from the section `systems` of the settings: its address and time-outs. A step that
  # says `system: payments` gets it as {StepContext#system}, and at most {#concurrency} of its handlers run at once in a
  # process.
  class ExternalSystem
    # @return [String]
    attr_reader :name, :base_url
    # @return [Float] seconds
    attr_reader :connect_timeout, :read_timeout
    # @return [Integer] handlers that may run at once in one process
    attr_reader :concurrency

    # @api private made from the settings, see {Configuration#systems}
    def initialize(name:, base_url:, connect_timeout:, read_timeout:, concurrency:)
      @name = name
      @base_url = base_url
      @connect_timeout = connect_timeout
      @read_timeout = read_timeout
      @concurrency = concurrency
      freeze
    end

    # @param path [String] below the base URL
    # @return [URI::HTTP]
    def uri(path = "") = URI("#{base_url.chomp('/')}/#{path.delete_prefix('/')}")

    # Opens a connection with the system's time-outs for the block.
    # @yieldparam http [Net::HTTP]
    # @return [Object] what the block returns
    # @raise [Net::OpenTimeout, Net::ReadTimeout, SystemCallError] which, uncaught, fail the attempt; the step is
    #   retried
    def connect(&block)
      Net::HTTP.start(uri.host, uri.port, use_ssl: uri.scheme == "https", open_timeout: connect_timeout,
                                          read_timeout: read_timeout, write_timeout: read_timeout, &block)
    end
  end
end
