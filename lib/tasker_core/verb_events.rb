# frozen_string_literal: true

require "after_commit_everywhere"

module TaskerCore
  # What an operator's verb has changed, to those who listen in this process, after its commit. The verb says itself what
  # there is to tell (`db/functions/tell_events.sql`).
  module VerbEvents
    # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter] which the verb was called on
    # @param answer [Object] the verb's
    def self.tell(connection, answer, events: TaskerCore.events)
      return unless answer.is_a?(Hash) && answer.key?("told")

      wanted = answer.delete("told").to_a.select { |event| events.wants?(event.fetch("name")) }
      return if wanted.empty?

      AfterCommitEverywhere.after_commit(connection: connection) do
        wanted.each { |event| events.publish(event["name"], event["payload"], correlation_id: event["correlation_id"]) }
      end
    end
  end
end
