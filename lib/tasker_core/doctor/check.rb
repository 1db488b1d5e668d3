# frozen_string_literal: true

module TaskerCore
  class Doctor
    # One look at one thing.
    #
    # @api private
    class Check
      include Diagnosis::Wording

      class << self
        # @return [String] what its findings are called
        def check_name = name.demodulize.underscore

        # @return [Array<String>] the checks without which it cannot look
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
      rescue StandardError => e # whatever is out of order, the other checks are wanted all the more
        [error("it cannot be looked at: #{e.class}: #{e.message.squish}", "mend that first, and look again: `tasker doctor`")]
      end

      private

      # @return [Finding, Array<Finding>, nil] nothing when all is in order
      def issues = raise(NotImplementedError, "#{self.class} has to define issues")

      # @return [String] what is told then
      def ok_message = raise(NotImplementedError, "#{self.class} has to define ok_message")

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
