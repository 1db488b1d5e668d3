# frozen_string_literal: true

module TaskerCore
  # Checks an installation: settings, database, connections, workers, stuck work. Changes nothing; each finding that is
  # not ok has a remedy.
  #
  # @example
  #   puts TaskerCore::Doctor.new.findings.reject(&:ok?)
  class Doctor
    # `check` is the name of the check, `severity` is ok, warning or error, and `remedy` is nil if `severity` is ok.
    Finding = Struct.new(:check, :severity, :explanation, :remedy, keyword_init: true) do
      def ok? = severity == "ok"

      def to_s = "#{severity}: #{check}: #{explanation}#{"\n  #{remedy}" if remedy}"
    end

    # In this order; a check that needs another one (settings, database, schema) is left out if that one found an error.
    CHECKS = [Settings, Versions, Database, Schema, Connections, Clock, Listening, Workers, Queues, Jobs, Stuck,
              Invariants, Subscriptions, Declarations, Retention].freeze
    private_constant :CHECKS

    # @param configuration [Configuration] of the workers
    # @param database [Hash, nil] the workers' address; by default Active Record's
    def initialize(configuration: TaskerCore.config, database: nil)
      @configuration = configuration
      @database = database
    end

    # @return [Array<Finding>] one or more for each check; an unreachable database is a finding, too
    def findings
      @findings ||= CHECKS.each_with_object([]) do |check, found|
        failed = found.select { |finding| finding.severity == "error" }.map(&:check)
        next if check.needs.intersect?(failed)

        found.concat(check.new(configuration: @configuration, database: @database).perform)
      end.freeze
    end

    # @return [Boolean] whether no check found an error; warnings do not count
    def ok? = findings.none? { |finding| finding.severity == "error" }
  end
end
