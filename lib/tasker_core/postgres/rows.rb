# frozen_string_literal: true

module TaskerCore
  module Postgres
    # Runs queries that no model covers.
    #
    # @api private
    module Rows
      module_function

      # Reads past Active Record's query cache: workers change the rows meanwhile.
      # @param sql [String] with `$1`, `$2`, … for the binds
      # @return [Array<Hash{String => Object}>] by column, cast to Ruby's types
      # @raise [DatabaseError] without a connection
      def read(sql, *binds)
        result = ApplicationRecord.on_connection do |connection|
          connection.uncached { connection.select_all(sql, "TaskerCore", binds) }
        end
        values = result.columns.one? ? result.cast_values.zip : result.cast_values
        values.map { |row| result.columns.zip(row).to_h }
      end
    end
  end
end
