# frozen_string_literal: true

require "after_commit_everywhere"

module TaskerCore
  module Operations
    # Calls the SQL functions of {Action}s for the models: on the application's own connection and in its transaction.
    # After the commit it wakes workers for the steps that became ready.
    #
    # @api private
    module Operable
      private

      # @param function [Symbol]
      # @param arguments [Array] what the function takes before reason and actor
      # @return [self] reloaded
      # @raise [TransitionError, TaskNotFoundError, InputError]
      def operate(function, *arguments, reason:, by:)
        ApplicationRecord.on_connection do |connection|
          Postgres::Functions.ensure_current(connection)
          response = Postgres::Functions.call(connection, function, *arguments, reason, by&.to_s)
          queues = Array(response["ready_queues"])
          AfterCommitEverywhere.after_commit(connection: connection) { Worker::Wakeup.send_for(queues) }
        end
        reload
      end
    end
  end
end
