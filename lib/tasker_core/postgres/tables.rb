# frozen_string_literal: true

module TaskerCore
  module Postgres
    # Creates the gem's tables with the names and keys that its functions use, whatever the host configures for Active
    # Record (table_name_prefix, table_name_suffix, primary_key_prefix_type, another key type). The migration and
    # schema.rb include it.
    #
    # @api private
    module Tables
      NAMES = %w[
        tasker_workflow_versions tasker_step_definitions tasker_tasks tasker_task_inputs tasker_idempotency_keys
        tasker_workflow_steps tasker_ready_steps tasker_claimed_steps tasker_waiting_steps tasker_step_attempts
        tasker_task_events tasker_processes tasker_outbox_events tasker_subscriptions tasker_counts
      ].freeze
      OLDEST_SERVER = 130_000
      private_constant :OLDEST_SERVER

      class << self
        # @raise [DatabaseError] when the tables cannot be created; nothing has been changed
        def verify!(connection)
          unless connection.adapter_name.match?(/postg/i)
            reject(connection, "its adapter is #{connection.adapter_name}, but tasker_core needs PostgreSQL: give it " \
                               "a database of its own (docs/operations.md)")
          end
          if connection.database_version < OLDEST_SERVER
            reject(connection, "its server has the version number #{connection.database_version}, but tasker_core " \
                               "needs PostgreSQL 13 or later")
          end
          verify_names(connection)
        end

        private

        def verify_names(connection)
          schema = connection.current_schema
          unless schema
            reject(connection, "no schema of schema_search_path exists (#{connection.schema_search_path}): create one")
          end

          taken = NAMES.select { |name| connection.data_source_exists?("#{schema}.#{name}") }
          return if taken.empty?

          reject(connection, "the schema #{schema} has #{taken.first} already: rename or remove it, or set another " \
                             "schema_search_path")
        end

        def reject(connection, why)
          raise DatabaseError.new("the tables of tasker_core cannot be created in the database " \
                                  "#{connection.try(:current_database)}: #{why}")
        end
      end

      # @api private of ActiveRecord::Migration: adds the host's prefix and suffix, except to the gem's tables
      def proper_table_name(name, options = {})
        own?(name) ? name.to_s : super
      end

      # @api private of ActiveRecord::Migration
      def create_table(name, **options, &block)
        return super unless own?(name) || own?(proper_table_name(name, table_name_options))

        options[:primary_key] = "id" unless options.key?(:primary_key) || options[:id] == false
        options[:id] ||= :bigint unless options[:primary_key].is_a?(Array) || options[:id] == false
        super
      end

      private

      def own?(name) = NAMES.include?(name.to_s)
    end
  end
end
