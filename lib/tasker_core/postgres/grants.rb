# frozen_string_literal: true

module TaskerCore
  module Postgres
    # The privileges that a database role without ownership needs, as SQL: for the application with its workers, or for
    # reading.
    #
    # Functions run with the caller's rights, so the role needs privileges on the tables, too.
    #
    # @api private
    class Grants
      WRITE = { tables: "select, insert, update, delete", sequences: "usage, select" }.freeze
      READ = { tables: "select", sequences: "select" }.freeze
      private_constant :WRITE, :READ

      # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter] to the database with the tables
      # @param role [String]
      # @param read_only [Boolean] whether the role only reads: lists, dashboard, reports
      def initialize(connection, role, read_only: false)
        raise ConfigurationError.new("role: is missing: name a role of the database") if role.to_s.strip.empty?

        @connection = connection
        @role = connection.select_value("select quote_ident(#{connection.quote(role.to_s)})")
        @privileges = read_only ? READ : WRITE
      end

      # @return [Array<String>] idempotent statements
      # @raise [FunctionsMissingError]
      def statements
        Functions.verify!(@connection)
        [
          "grant usage on schema #{[schema, Functions::SCHEMA].uniq.join(', ')} to #{@role};",
          "grant #{@privileges[:tables]} on #{relations('r', 'p').join(', ')} to #{@role};",
          "grant #{@privileges[:sequences]} on sequence #{relations('S').join(', ')} to #{@role};",
          "grant execute on all functions in schema #{Functions::SCHEMA} to #{@role};"
        ]
      end

      private

      def schema = @schema ||= @connection.select_value(<<~SQL)
        select quote_ident(n.nspname)
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where c.oid = to_regclass('tasker_tasks')
      SQL

      def relations(*kinds) = @connection.select_values(<<~SQL)
        select format('%I.%I', n.nspname, c.relname)
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where quote_ident(n.nspname) = #{@connection.quote(schema)}
          and c.relname like 'tasker\\_%'
          and c.relkind in (#{kinds.map { |kind| @connection.quote(kind) }.join(', ')})
        order by c.relname
      SQL
    end
  end
end
