# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether ended tasks are removed.
    class Retention < Check
      def self.needs = %w[settings]

      private

      def look
        return if @configuration[:retention, :enabled]

        warning("retention.enabled is false: ended tasks are never removed, and the tables grow",
                "set `retention.enabled: true` in config/tasker-core.yaml, or run `tasker prune` from time to time")
      end

      def in_order = "tasks are removed #{span(@configuration[:retention, :keep])} after their end"
    end
  end
end
