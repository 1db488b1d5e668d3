# frozen_string_literal: true

module TaskerCore
  module Postgres
    # Keeps the functions' schema out of structure.sql, like {SchemaDump} for schema.rb: functions belong to a version
    # of the gem, and are installed after a load.
    #
    # @api private
    module StructureDump
      def structure_dump(filename, extra_flags)
        super(filename, [*extra_flags, "--exclude-schema=#{Functions::SCHEMA}"])
      end
    end
  end
end
