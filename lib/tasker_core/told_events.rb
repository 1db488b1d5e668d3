# frozen_string_literal: true

require "after_commit_everywhere"

module TaskerCore
  # What a function has changed, an operator's verb above all, to those who listen in this process, after its commit. The
  # function says itself what there is to tell (`db/functions/build_events.sql`).
  module ToldEvents
    # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter] which the function was called on
    # @param answer [Object] the function's
    def self.tell(connection, answer, events: TaskerCore.events)
      return unless answer.is_a?(Hash) && answer.key?("emitted")

      wanted = answer.delete("emitted").to_a.select { |event| events.wants?(event.fetch("name")) }
      return if wanted.empty?

      AfterCommitEverywhere.after_commit(connection: connection) do
        wanted.each { |event| events.publish(event["name"], event["payload"], correlation_id: event["correlation_id"]) }
      end
    end
  end
end
