# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Checks one part of an installation.
    #
    # @api private
    class Check
      include Diagnosis::Wording

      class << self
        # @return [String] the `check` of its findings
        def check_name = name.demodulize.underscore

        # @return [Array<String>] names of the checks that must pass first
        def needs = %w[settings database schema]
      end

      def initialize(configuration:, database:)
        @configuration = configuration
        @database = database
      end

      # @return [Array<Finding>] at least one
      def perform
        found = [issues].flatten.compact
        found.empty? ? [ok(ok_message)] : found
      rescue StandardError => e # the other checks still have to run
        [error("the check failed: #{e.class}: #{e.message.squish}", "fix this error, then run `tasker doctor` again")]
      end

      private

      # @return [Finding, Array<Finding>, nil] nil or empty if there is none
      def issues = raise(NotImplementedError, "#{self.class} must define issues")

      # @return [String] the explanation of an ok finding
      def ok_message = raise(NotImplementedError, "#{self.class} must define ok_message")

      def ok(explanation) = finding("ok", explanation, nil)

      def warning(explanation, remedy) = finding("warning", explanation, remedy)

      def error(explanation, remedy) = finding("error", explanation, remedy)

      def finding(severity, explanation, remedy)
        Finding.new(check: self.class.check_name, severity: severity, explanation: explanation, remedy: remedy).freeze
      end

      # @return [Array<Hash{String => Object}>]
      def rows(...) = Postgres::Rows.read(...)

      def health = @health ||= rows("select * from #{Postgres::Functions::SCHEMA}.system_health()").first

      def live_workers = health["processes"] - health["silent_processes"]

      def start_a_worker = "start a worker: `tasker work`"
    end
  end
end
