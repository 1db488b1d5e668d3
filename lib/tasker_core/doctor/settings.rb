# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether the settings are valid.
    #
    # @api private
    class Settings < Check
      def self.needs = []

      private

      def issues
        @configuration.to_h
        nil
      rescue ConfigurationError => e
        error(e.message, "correct them in config/tasker-core.yaml, in TASKER_CORE__ environment variables or in the " \
                         "application's code, then run `tasker config check`")
      end

      def ok_message = "the settings are valid"
    end
  end
end
