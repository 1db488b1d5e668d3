# frozen_string_literal: true

module TaskerCore
  module Postgres
    # @api private
    module Functions
      # Puts a set of functions in the place of another, or where there was none, in the caller's transaction.
      #
      # What operations have set stays: the schema and each function that the new set still has keep owner, privileges and
      # comment, because they are replaced and not dropped; where a function's form has changed it is dropped, and the new one
      # gets the same. Nothing of others that depends on a function is dropped with it. Workers may run meanwhile: each call sees
      # one set or the other.
      class Installation
        # What `plans.sql` sets for functions, now or in an older version: never an operator's.
        PLANNED = %w[jit plan_cache_mode enable_seqscan enable_hashjoin enable_mergejoin].freeze
        # Their values are stored as a list of names, quoted where that is needed.
        LISTS = %w[search_path temp_tablespaces local_preload_libraries session_preload_libraries].freeze
        FUNCTIONS = <<~SQL
          select p.oid::integer as oid, p.ctid::text as place, p.proname as name, p.oid::regprocedure::text as signature,
            quote_ident(pg_get_userbyid(p.proowner)) as owner, p.prosecdef as definer,
            to_json(coalesce(p.proconfig, '{}')) as settings, obj_description(p.oid, 'pg_proc') as comment,
            (
              select json_agg(json_build_array(
                case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end, is_grantable
              ) order by grantee)
              from aclexplode(p.proacl)
            ) as privileges
          from pg_proc p
          where p.pronamespace = to_regnamespace('%s')
          order by p.proname
        SQL
        private_constant :PLANNED, :LISTS, :FUNCTIONS

        # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter] in a transaction
        # @param schema [String]
        # @param functions [Hash{String => String}] SQL that creates each, by name
        # @param settings [Array<String>] SQL that is run when they are there
        def initialize(connection, schema:, functions:, settings:)
          @connection = connection
          @schema = schema
          @functions = functions
          @settings = settings
        end

        # @raise [DatabaseError] when something of others depends on a function that has to be dropped
        def perform
          # Functions refer to others that come after them in the alphabet.
          run("set local check_function_bodies = off; set local client_min_messages = warning")
          run("create schema #{@schema}") unless @connection.select_value("select to_regnamespace('#{@schema}') is not null")
          @before = functions
          @functions.each { |name, source| put(name, source) }
          drop(functions.select { |function| @before.any? { |old| old.slice("oid", "place") == function.slice("oid", "place") } })
          @settings.each { |source| run(source) }
          functions.each { |function| restore(function) }
        end

        private

        def run(sql) = @connection.execute(sql)

        def functions
          rows = @connection.uncached { @connection.select_all(format(FUNCTIONS, @schema)).to_a }
          rows.map do |row|
            row.merge("settings" => JSON.parse(row["settings"]),
                      "privileges" => row["privileges"] && JSON.parse(row["privileges"]))
          end
        end

        def put(name, source)
          replacing = source.sub(/^create function /, "create or replace function ")
          @connection.transaction(requires_new: true) { run(replacing) }
        rescue ActiveRecord::StatementInvalid => e
          raise unless e.cause.is_a?(PG::InvalidFunctionDefinition)

          # Its result or the names of its arguments have changed.
          drop(@before.select { |function| function["name"] == name })
          run(source)
        end

        def drop(functions)
          functions.each { |function| run("drop routine #{function['signature']}") }
        rescue ActiveRecord::StatementInvalid => e
          raise unless e.cause.is_a?(PG::DependentObjectsStillExist)

          detail = e.cause.message.lines.first(2).join.squish
          raise DatabaseError.new("the functions of tasker_core #{VERSION} cannot be installed: #{detail}; drop what depends " \
                                  "on it, install them, and create it again")
        end

        def restore(function)
          old = predecessor(function) or return
          unless old["oid"] == function["oid"] # otherwise it has kept them
            restore_privileges(function, old["privileges"])
            run("comment on routine #{function['signature']} is #{@connection.quote(old['comment'])}") if old["comment"]
            run("alter routine #{function['signature']} owner to #{old['owner']}") if old["owner"] != function["owner"]
          end
          restore_settings(function, old)
        end

        # What a function was before; a new one is treated as all others were, if they were all alike.
        def predecessor(function)
          old = @before.find { |other| other["name"] == function["name"] }
          return old if old

          common = @before.map { |other| other.slice("owner", "privileges") }.uniq
          common.first.merge("settings" => [], "definer" => false) if common.one?
        end

        def restore_privileges(function, privileges)
          return unless privileges

          run("revoke all on routine #{function['signature']} from public")
          privileges.each do |grantee, grantable|
            run("grant execute on routine #{function['signature']} to #{grantee}#{' with grant option' if grantable}")
          end
        end

        def restore_settings(function, old)
          run("alter routine #{function['signature']} security definer") if old["definer"] && !function["definer"]
          set = function["settings"].map { |setting| setting[/\A[^=]+/] }
          old["settings"].each do |setting|
            name, value = setting.split("=", 2)
            next if PLANNED.include?(name) || set.include?(name)

            run("alter routine #{function['signature']} set #{name} = #{LISTS.include?(name) ? value : @connection.quote(value)}")
          end
        end
      end
    end
  end
end
