# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether tables and functions are those of this version of the gem.
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

      def ok_message = "tables and functions are those of tasker_core #{VERSION}"
    end
  end
end
