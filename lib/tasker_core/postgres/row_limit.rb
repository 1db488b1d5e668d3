# frozen_string_literal: true

module TaskerCore
  module Postgres
    # How many rows a statement reads or changes: half as many after one that was too much, twice as many after one that worked.
    #
    # Invariant: one row at least, never more than at first. The orchestrator has the same for workers (`limit.rs`).
    #
    # @api private
    class RowLimit
      # A statement failed that was for a single row: this row is at fault. The message is the database's.
      class RowError < DatabaseError; end

      # @param max [Integer]
      def initialize(max)
        @max = @rows = [max, 1].max
      end

      # Repeats a statement with fewer rows after an error that fewer rows may avoid. Not in a transaction of the caller, which
      # that error has ended: there it is raised.
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
