# frozen_string_literal: true

require "after_commit_everywhere"

module TaskerCore
  class Events
    # What a function has changed, an operator's verb above all, to those who listen in this process, after its commit. The
    # function says itself what there is to tell (`db/functions/outbox/internal/build_events.sql`).
    #
    # @api private
    module AfterCommit
      # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter] which the function was called on
      # @param result [Object] the function's
      def self.publish(connection, result, events: TaskerCore.events)
        return unless result.is_a?(Hash) && result.key?("emitted")

        listened = result.delete("emitted").to_a.select { |event| events.listeners?(event.fetch("name")) }
        return if listened.empty?

        AfterCommitEverywhere.after_commit(connection: connection) do
          listened.each { |event| events.publish(event["name"], event["payload"], correlation_id: event["correlation_id"]) }
        end
      end
    end
  end
end
