# frozen_string_literal: true

module TaskerCore
  module Postgres
    # Keeps the functions' schema out of schema.rb: functions are installed after a load, and a `create_schema` in the
    # file would make a second load fail.
    #
    # @api private
    module SchemaDump
      private

      def schemas(stream)
        text = StringIO.new
        super(text)
        lines = text.string.lines.reject { |line| line.include?(Functions::SCHEMA.inspect) }
        stream.print(lines.join) if lines.any? { |line| line.strip != "" }
      end
    end
  end
end
