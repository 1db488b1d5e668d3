# frozen_string_literal: true

require "net/http"

module TaskerCore
  class Worker
    # An external system that the settings name: where it is, and how long it may take. A step that says `system: payments`
    # has it as `context.system`, and at most `concurrency` of its handlers run at once in one process.
    class ExternalSystem
      # @return [String]
      attr_reader :name, :base_url
      # @return [Float] seconds
      attr_reader :connect_timeout, :read_timeout
      # @return [Integer] handlers at once in one process
      attr_reader :concurrency

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
      # @return [Object] what the block answers
      # @raise [Net::OpenTimeout, Net::ReadTimeout, SystemCallError] which are tried again as the step's policy says
      def connect(&block)
        Net::HTTP.start(uri.host, uri.port, use_ssl: uri.scheme == "https", open_timeout: connect_timeout,
                                            read_timeout: read_timeout, write_timeout: read_timeout, &block)
      end
    end
  end
end
