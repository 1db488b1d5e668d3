# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether the settings can be used.
    #
    # @api private
    class Settings < Check
      def self.needs = []

      private

      def issues
        @configuration.to_h
        nil
      rescue ConfigurationError => e
        error(e.message, "correct them in config/tasker-core.yaml, in the environment's TASKER_CORE__ variables or in the " \
                         "application's code; `tasker config check` looks again")
      end

      def ok_message = "the settings are in order"
    end
  end
end
