# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether ended tasks are removed.
    #
    # @api private
    class Retention < Check
      def self.needs = %w[settings]

      private

      def issues
        return if @configuration[:retention, :enabled]

        warning("retention.enabled is false: ended tasks are never removed, and the tables grow",
                "set `retention.enabled: true` in config/tasker-core.yaml, or run `tasker prune` regularly")
      end

      def ok_message = "ended tasks are removed after #{span(@configuration[:retention, :keep])}"
    end
  end
end
