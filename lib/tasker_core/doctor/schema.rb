# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether the tables exist, and the functions are those of this version of the gem.
    #
    # @api private
    class Schema < Check
      def self.needs = %w[database]

      private

      def issues
        ApplicationRecord.on_connection { |connection| Postgres::Functions.verify!(connection) }
        nil
      rescue FunctionsMissingError => e
        explanation, remedy = e.message.split(": run ", 2)
        error(explanation, "run #{remedy}")
      end

      def ok_message = "tables and functions match tasker_core #{VERSION}"
    end
  end
end
