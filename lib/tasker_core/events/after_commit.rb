# frozen_string_literal: true

require "after_commit_everywhere"

module TaskerCore
  class Events
    # Publishes what an SQL function has changed, such as an operator's action, to the listeners of this process: after
    # the commit. The function's result has the events (`db/functions/outbox/internal/build_events.sql`).
    #
    # @api private
    module AfterCommit
      # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter] on which the function was called
      # @param result [Object] the function's; its key "emitted" is removed
      # @param events [Events]
      def self.publish(connection, result, events: TaskerCore.events)
        return unless result.is_a?(Hash) && result.key?("emitted")

        listened = result.delete("emitted").to_a.select { |event| events.listeners?(event.fetch("name")) }
        return if listened.empty?

        AfterCommitEverywhere.after_commit(connection: connection) do
          listened.each do |event|
            events.publish(event["name"], event["payload"], correlation_id: event["correlation_id"])
          end
        end
      end
    end
  end
end
