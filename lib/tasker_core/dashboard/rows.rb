# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # What no model reads.
    #
    # @api private
    module Rows
      module_function

      # @return [Array<Hash{String => Object}>]
      def read(sql, *binds)
        ApplicationRecord.on_connection do |connection|
          result = connection.uncached { connection.select_all(sql, "TaskerCore", binds) }
          result.cast_values.map { |values| result.columns.zip(Array.wrap(values)).to_h }
        end
      end
    end
  end
end
