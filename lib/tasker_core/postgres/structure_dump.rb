# frozen_string_literal: true

module TaskerCore
  module Postgres
    # Keeps the functions' schema out of structure.sql, as {SchemaDump} does for schema.rb: it is code of the gem's version, and
    # is installed after a load.
    #
    # @api private
    module StructureDump
      def structure_dump(filename, extra_flags)
        super(filename, [*extra_flags, "--exclude-schema=#{Functions::SCHEMA}"])
      end
    end
  end
end
