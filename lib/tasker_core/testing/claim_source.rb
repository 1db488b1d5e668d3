# frozen_string_literal: true

module TaskerCore
  module Testing
    # Reads what a claim omits, on the test's connection: for {InlineWorker} what the orchestrator is for {Worker}.
    #
    # @api private
    class ClaimSource
      # The fields that identify a claim.
      KEY = %w[token task_id position attempt].freeze

      # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter]
      # @param process [Integer] that has the claim
      # @param claim [Hash{String => Object}]
      # @param bytes [Integer] of results by one statement
      def initialize(connection, process:, claim:, bytes:)
        @connection = connection
        @process = process
        @claim = claim
        @bytes = bytes
      end

      # @return [String] JSON text, see {StepResults}
      def ancestor_results(_token, names, after)
        json(call(:ancestor_results, *@claim.values_at("task_id", "position"), names, after, @bytes))
      end

      # @return [String] JSON text
      def task_input(_token) = json(call(:task_input, @claim["task_id"]))

      # @return [Boolean] whether the lease was revoked
      def revoked?(token)
        call(:heartbeat, @process, json([@claim.slice(*KEY)])).fetch("revoked").include?(token)
      end

      private

      def call(name, *arguments) = Postgres::Functions.call(@connection, name, *arguments)

      def json(value) = JSON.generate(value, max_nesting: 0)
    end
  end
end
