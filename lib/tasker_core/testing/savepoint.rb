# frozen_string_literal: true

module TaskerCore
  module Testing
    # Keeps a test's transaction usable after a failed statement, as a worker's connection is.
    #
    # @api private
    module Savepoint
      module_function

      # Runs the block. If one of its statements fails inside a transaction, all writes of the block are rolled back,
      # which makes the transaction usable again.
      # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter]
      # @return [Object] what the block returns
      def around(connection)
        return yield unless connection.transaction_open?

        result = nil
        # Not joinable: the block's own transactions commit, and run their callbacks, when they end.
        connection.transaction(requires_new: true, joinable: false) do
          result = yield
          raise ActiveRecord::Rollback if broken?(connection)
        end
        result
      end

      # @return [Boolean] whether the connection's transaction has failed and can only be rolled back
      def broken?(connection) = connection.raw_connection.transaction_status == PG::PQTRANS_INERROR
    end
  end
end
