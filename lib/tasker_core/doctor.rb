# frozen_string_literal: true

module TaskerCore
  # Holds an installation against what it needs: settings, database, connections, workers, what is stuck. It looks, and changes
  # nothing; each finding that is not in order has its remedy.
  #
  # @example
  #   puts TaskerCore::Doctor.new.findings.reject(&:ok?)
  class Doctor
    # `check` is a word, `severity` one of ok, warning, error; `remedy` is nil where all is in order.
    Finding = Struct.new(:check, :severity, :explanation, :remedy, keyword_init: true) do
      def ok? = severity == "ok"

      def to_s = "#{severity}: #{check}: #{explanation}#{"\n  #{remedy}" if remedy}"
    end

    # In this order; those that need another (settings, database, functions) are left out where that one has an error.
    CHECKS = [Settings, Versions, Database, Schema, Connections, Clock, Listening, Workers, Queues, Stuck, Invariants,
              Subscriptions, Declarations, Retention].freeze
    private_constant :CHECKS

    # @param configuration [Configuration] of the workers
    # @param database [Hash, nil] the workers' address; by default Active Record's
    def initialize(configuration: TaskerCore.config, database: nil)
      @configuration = configuration
      @database = database
    end

    # @return [Array<Finding>] one or more for each check; a database that is away is a finding, too
    def findings
      @findings ||= CHECKS.each_with_object([]) do |check, found|
        next if check.needs.any? { |need| found.any? { |finding| finding.check == need && finding.severity == "error" } }

        found.concat(check.new(configuration: @configuration, database: @database).perform)
      end.freeze
    end

    # @return [Boolean] whether there is no error; warnings do not count
    def ok? = findings.none? { |finding| finding.severity == "error" }
  end
end
