# frozen_string_literal: true

module TaskerCore
  module Testing
    # A test's transaction must outlive a statement that the database refuses, as a worker's connection would.
    module Savepoint
      module_function

      # Runs the block. If a statement of it was refused inside a transaction, all that the block wrote is undone: nothing
      # else can be done with that transaction.
      # @return [Object] what the block answers
      def around(connection)
        return yield unless connection.transaction_open?

        result = nil
        # Not joinable: the block's own transactions are committed, with all that follows, when they end.
        connection.transaction(requires_new: true, joinable: false) do
          result = yield
          raise ActiveRecord::Rollback if broken?(connection)
        end
        result
      end

      # @return [Boolean] whether the connection's transaction can only be undone
      def broken?(connection) = connection.raw_connection.transaction_status == PG::PQTRANS_INERROR
    end
  end
end
