# frozen_string_literal: true

module TaskerCore
  module Postgres
    # Installs the functions wherever Rails loads a schema (db:schema:load, db:test:prepare, db:prepare, a test run that
    # maintains its schema): schema.rb and structure.sql hold tables and no functions.
    #
    # @api private
    module SchemaLoad
      def load_schema(db_config, ...)
        super
        return unless db_config.adapter.match?(/postg/)

        with_temporary_connection(db_config) do |connection|
          Functions.install!(connection) if connection.data_source_exists?("tasker_tasks")
        end
      end
    end
  end
end
