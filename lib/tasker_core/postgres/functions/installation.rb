# frozen_string_literal: true

module TaskerCore
  module Postgres
    # @api private
    module Functions
      # Installs a set of functions in the caller's transaction, in place of another set if there is one.
      #
      # Keeps what operators have set. The schema and the remaining functions keep owner, privileges and comment,
      # because they are replaced, not dropped. A function whose signature has changed is dropped, and its successor
      # gets the same attributes. No object that depends on a function is dropped. Workers may keep running: each call
      # sees one of the two sets.
      class Installation
        # Settings that `plans.sql` makes, in this or an older version; operators do not set them.
        PLANNED = %w[jit plan_cache_mode enable_seqscan enable_hashjoin enable_mergejoin].freeze
        # Settings whose values are stored as a list of names, quoted as needed.
        LISTS = %w[search_path temp_tablespaces local_preload_libraries session_preload_libraries].freeze
        FUNCTIONS = <<~SQL
          select p.oid::integer as oid, p.ctid::text as place, p.proname as name,
            p.oid::regprocedure::text as signature,
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
        # @param functions [Hash{String => String}] the SQL that creates each function, by name
        # @param settings [Array<String>] SQL that is run after all functions exist
        def initialize(connection, schema:, functions:, settings:)
          @connection = connection
          @schema = schema
          @functions = functions
          @settings = settings
        end

        # @raise [DatabaseError] when another object depends on a function that has to be dropped
        def perform
          # Functions refer to others that are created later, in alphabetical order.
          run("set local check_function_bodies = off; set local client_min_messages = warning")
          run("create schema #{@schema}") unless schema?
          @before = functions
          @functions.each { |name, source| put(name, source) }
          drop(functions.select { |function| @before.any? { |old| same?(old, function) } })
          @settings.each { |source| run(source) }
          functions.each { |function| restore(function) }
        end

        private

        def run(sql) = @connection.execute(sql)

        def schema? = @connection.select_value("select to_regnamespace('#{@schema}') is not null")

        # Whether a function was not replaced.
        def same?(old, function) = old.slice("oid", "place") == function.slice("oid", "place")

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

          # Its result type or the names of its arguments have changed.
          drop(@before.select { |function| function["name"] == name })
          run(source)
        end

        def drop(functions)
          functions.each { |function| run("drop routine #{function['signature']}") }
        rescue ActiveRecord::StatementInvalid => e
          raise unless e.cause.is_a?(PG::DependentObjectsStillExist)

          detail = e.cause.message.lines.first(2).join.squish
          raise DatabaseError.new("the functions of tasker_core #{VERSION} cannot be installed: #{detail}; drop the " \
                                  "dependent objects, install the functions, and recreate them")
        end

        def restore(function)
          old = predecessor(function) or return
          unless old["oid"] == function["oid"] # a replaced function has kept them
            restore_privileges(function, old["privileges"])
            run("comment on routine #{function['signature']} is #{@connection.quote(old['comment'])}") if old["comment"]
            run("alter routine #{function['signature']} owner to #{old['owner']}") if old["owner"] != function["owner"]
          end
          restore_settings(function, old)
        end

        # The function of the earlier set with that name. For a new function, the common attributes of the earlier
        # functions, if they were all alike.
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

            value = @connection.quote(value) unless LISTS.include?(name)
            run("alter routine #{function['signature']} set #{name} = #{value}")
          end
        end
      end
    end
  end
end
