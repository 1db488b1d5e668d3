# frozen_string_literal: true

require "after_commit_everywhere"

module TaskerCore
  module Operations
    # What the models' verbs have in common: the function, on the application's own connection and in its transaction, and after
    # the commit a notice to workers.
    #
    # @api private
    module Action
      module_function

      # @param function [Symbol] the function's name
      # @param arguments [Array] the function's, of which the last two are reason and by
      # @return [Hash]
      # @raise [TransitionError, TaskNotFoundError, InputError]
      def call(function, *arguments, reason, by)
        ApplicationRecord.on_connection do |connection|
          Postgres::Functions.ensure_current(connection)
          result = Postgres::Functions.call(connection, function, *arguments, reason, by&.to_s)
          queues = Array(result["ready_queues"])
          AfterCommitEverywhere.after_commit(connection: connection) { Worker::Wakeup.send_for(queues) }
          result
        end
      end

      # @return [String] JSON
      # @raise [InputError] when a result has no form in JSON
      def payload(result)
        JsonValue.json(result, "result")
      rescue JsonValue::Unwritable => e
        raise InputError.unwritable("result", e)
      end
    end
  end
end
