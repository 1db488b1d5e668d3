# frozen_string_literal: true

module TaskerCore
  module Postgres
    # The number of rows that a statement reads or changes: halved after a failure, doubled after a success.
    #
    # Invariant: from one row up to the initial number. The orchestrator has the same for workers (`limit.rs`).
    #
    # @api private
    class RowLimit
      # A statement for a single row failed, so this row is at fault. The message is the database's.
      class RowError < DatabaseError; end

      # @param max [Integer]
      def initialize(max)
        @max = @rows = [max, 1].max
      end

      # Repeats a statement with fewer rows after an error that fewer rows may avoid. In a transaction of the caller it
      # raises the error, which has aborted the transaction.
      # @yieldparam rows [Integer]
      # @return [Object] the block's value
      # @raise [RowError]
      def run
        rows = @rows
        yield(rows).tap { @rows = [rows * 2, @max].min }
      rescue ActiveRecord::StatementInvalid, InputError => e
        raise unless Functions.of_rows?(e) && !ApplicationRecord.on_connection(&:transaction_open?)
        raise RowError.new(Functions.message_of(e)) if rows == 1

        @rows = rows / 2
        retry
      end
    end
  end
end
