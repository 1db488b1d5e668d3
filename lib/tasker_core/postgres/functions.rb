# frozen_string_literal: true

module TaskerCore
  module Postgres
    # Installs the SQL functions of `db/functions`, and calls them on an Active Record connection.
    #
    # They are code, not data: a set has its own schema, named by its version, and is replaced as a whole
    # ({Installation}). The schema's comment holds the digest of the installed set.
    #
    # @api private
    module Functions
      SCHEMA = "tasker_core_v1"
      ROOT = File.expand_path("../../../db", __dir__)
      LOCK = 0x7461736b # "task"; allows one installation at a time

      # The arguments of each function with their types.
      ARGUMENTS = {
        register_workflow: "$1::text::jsonb",
        create_tasks: "$1::text::jsonb, $2::boolean",
        wake_workers: "$1::text[]",
        cancel_task: "$1::bigint, $2::text, $3::text",
        resolve_task: "$1::bigint, $2::text, $3::text",
        retry_task: "$1::bigint, $2::text, $3::text",
        retry_step: "$1::bigint, $2::integer, $3::text, $4::text",
        release_step: "$1::bigint, $2::integer, $3::text, $4::text",
        resolve_step: "$1::bigint, $2::integer, $3::text, $4::text",
        complete_step: "$1::bigint, $2::integer, $3::text::jsonb, $4::text, $5::text",
        update_result: "$1::bigint, $2::integer, $3::text::jsonb, $4::text, $5::text",
        ancestor_results: "$1::bigint, $2::integer, $3::text[], $4::integer, $5::bigint",
        task_input: "$1::bigint",
        find_tasks: "$1::text::jsonb, $2::uuid, $3::integer, $4::integer",
        audit: "$1::bigint, $2::integer",
        next_task: "$1::bigint, $2::uuid, make_interval(secs => $3::float)",
        repair_task: "$1::bigint, $2::text, $3::text",
        recount_tasks: "$1::boolean",
        store_events: "$1::text::jsonb",
        register_subscriptions: "$1::text::jsonb",
        fetch_events: "$1::bigint, $2::text, $3::integer, $4::boolean",
        ack_events: "$1::bigint, $2::text, $3::bigint, $4::bigint, $5::text::jsonb, $6::text::jsonb",
        skip_event: "$1::text, $2::text, $3::text",
        drop_subscription: "$1::text",
        register_process: "$1::text::jsonb",
        deregister_process: "$1::bigint",
        heartbeat: "$1::bigint, $2::text::jsonb",
        claim_steps: "$1::bigint, $2::text[], $3::integer, p_start_timeout => $4::interval",
        release_steps: "$1::bigint, $2::text::jsonb, $3::interval, $4::text",
        finish_steps: "$1::bigint, $2::text::jsonb, $3::integer",
        sweep: "$1::bigint, $2::integer",
        prune: "make_interval(secs => $1::float), $2::uuid, $3::integer, $4::boolean"
      }.freeze
      # The last arguments of an operator's action.
      REASON_AND_ACTOR = %i[reason by].freeze
      private_constant :ARGUMENTS, :REASON_AND_ACTOR

      ERRORS_BY_CODE = {
        "TC001" => WorkflowConflictError, "TC002" => UnknownWorkflowError, "TC003" => TaskNotFoundError,
        "TC004" => TransitionError, "TC005" => StaleAttemptError, "TC006" => InputError,
        "TC008" => IdempotencyConflictError
      }.freeze
      private_constant :ERRORS_BY_CODE

      # SQL states of errors that mean that the database cannot read stored data: corruption and internal error, I/O
      # error, missing file.
      UNREADABLE = /\A(?:XX|58030|58P01)/
      # SQL states of errors that fewer rows may avoid: those, data exception, constraint violation, program limit;
      # statement and lock timeout, out of memory, a configured limit. `Error::kind` of the orchestrator has the same
      # list.
      OF_ROWS = Regexp.union(UNREADABLE, /\A(?:22|23|54|57014|55P03|53200|53400)/)
      private_constant :UNREADABLE, :OF_ROWS

      # The databases in which this process has verified the functions.
      CURRENT = Concurrent::Set.new
      private_constant :CURRENT

      class << self
        # Installs the functions unless this set is installed. Requires the tables, and their owner's rights.
        # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter]
        # @raise [DatabaseError] when another object depends on a function that was removed or has another signature
        def install!(connection)
          connection.transaction do
            connection.execute("select pg_advisory_xact_lock(#{LOCK})")
            next if installed?(connection)

            Installation.new(connection, schema: SCHEMA, functions: functions, settings: settings).perform
            connection.execute("comment on schema #{SCHEMA} is #{connection.quote(digest)}")
            # Older functions have not counted. Installed by the first migrations, before the counters exist.
            connection.execute("select #{SCHEMA}.recount_tasks()") if connection.data_source_exists?("tasker_counts")
          end
        end

        # Removes the functions, and whatever depends on them.
        # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter]
        def uninstall!(connection)
          connection.execute("drop schema if exists #{SCHEMA} cascade")
        end

        # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter]
        # @return [Boolean] whether the set of this version of the gem is installed
        def installed?(connection)
          comment = connection.select_value("select obj_description(to_regnamespace('#{SCHEMA}'), 'pg_namespace')")
          comment == digest
        end

        # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter]
        # @raise [FunctionsMissingError] unless the tables and this version's functions exist
        def verify!(connection)
          unless connection.data_source_exists?("tasker_tasks")
            raise FunctionsMissingError.new("the tables of tasker_core are missing in the database " \
                                            "#{connection.current_database}: run `bin/rails g tasker_core:update` " \
                                            "and `bin/rails db:migrate`")
          end
          return if installed?(connection)

          raise FunctionsMissingError.new("the SQL functions of tasker_core #{VERSION} are missing in the database " \
                                          "#{connection.current_database}: run " \
                                          "`bin/rails tasker_core:functions:install`")
        end

        # Runs once per process and database, before the first call of a function, and again when functions were
        # missing. Replaces another set in development and test, and raises in production.
        # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter]
        # @raise [FunctionsMissingError]
        def ensure_current(connection)
          database = connection.pool.db_config.object_id
          return if CURRENT.include?(database)

          local = Support::HostApplication.local?
          local && connection.data_source_exists?("tasker_tasks") ? install!(connection) : verify!(connection)
          CURRENT << database unless connection.transaction_open?
        end

        # @api private
        # @yieldparam connection [ActiveRecord::ConnectionAdapters::AbstractAdapter]
        # @yieldparam result [Object] of each function that {call} has called
        def observe(&observer) = @observer = observer

        # Calls a function inside the connection's transaction.
        #
        # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter]
        # @param name [Symbol]
        # @param arguments [Array] in the order of the function's; JSON as text
        # @return [Object] the result, JSON parsed
        # @raise [Error] of the class for the error code; {FunctionsMissingError}, {DatabaseError}
        def call(connection, name, *arguments)
          execute_current(connection, name, arguments).tap { |result| @observer&.call(connection, result) }
        end

        # Calls a function on the connection of the gem's models. Parameters and errors: {call}.
        # @return [Object] the result, JSON parsed
        def run(name, *arguments) = ApplicationRecord.on_connection { |connection| call(connection, name, *arguments) }

        # @param error [Exception]
        # @return [Boolean] whether fewer rows may avoid it: the statement was too large, or a row is unreadable
        def of_rows?(error)
          error = error.cause if error.is_a?(InputError)
          error.is_a?(ActiveRecord::StatementInvalid) && OF_ROWS.match?(sqlstate(error).to_s)
        end

        # @param error [Exception]
        # @param what [String] what was to be read: "the tags of task 5"
        # @return [UnreadableError, nil] for an error that means that the database cannot read stored data
        def unreadable(error, what)
          return unless error.is_a?(ActiveRecord::StatementInvalid) && UNREADABLE.match?(sqlstate(error).to_s)

          UnreadableError.of(what, message_of(error), sqlstate(error))
        end

        # @param error [ActiveRecord::StatementInvalid]
        # @return [String] the server's message, or the error's if it came from elsewhere
        def message_of(error) = result_of(error)&.error_field(PG::PG_DIAG_MESSAGE_PRIMARY) || error.message

        private

        # A database that was recreated while the process runs may lack the functions. The failed statement has aborted
        # the caller's transaction, if there is one; then only the next call can install them.
        def execute_current(connection, name, arguments)
          execute(connection, name, arguments)
        rescue FunctionsMissingError
          raise unless CURRENT.delete?(connection.pool.db_config.object_id)
          raise if connection.transaction_open?

          ensure_current(connection)
          execute(connection, name, arguments)
        end

        def execute(connection, name, arguments)
          verify_texts(name, arguments)
          result = connection.exec_query("select #{SCHEMA}.#{name}(#{ARGUMENTS.fetch(name)}) as result", "TaskerCore",
                                         binds(ARGUMENTS.fetch(name), arguments))
          connection.clear_query_cache
          parsed(result.rows.first.first)
        rescue ActiveRecord::StatementInvalid => e
          raise typed(e) || e
        rescue ActiveRecord::ConnectionNotEstablished => e
          raise DatabaseError.new("the database cannot be used: #{e.message}")
        end

        # Sources by name: each file has one function and its name.
        def functions
          Dir["#{ROOT}/functions/**/*.sql"].sort.to_h { |path| [File.basename(path, ".sql"), Support::Utf8.read(path)] }
        end

        def settings = %w[plans storage].map { |name| Support::Utf8.read("#{ROOT}/#{name}.sql") }

        def digest = @digest ||= "tasker_core #{Digest::SHA256.hexdigest([*functions.values, *settings].join)}"

        # Binds JSON, which may be an input or a result, so that Active Record logs only its size.
        def binds(types, arguments)
          types.split(", ").zip(arguments).map do |type, argument|
            next encoded(argument) unless type.end_with?("jsonb")

            ActiveModel::Attribute.with_cast_value("json", argument, Payload.new)
          end
        end

        # PostgreSQL cannot store null characters, and Active Record cannot send them.
        # @raise [InputError] with the field
        def verify_texts(name, arguments)
          types = ARGUMENTS.fetch(name).split(", ").map { |type| type[/\w+\z/] }
          fields = Array.new(types.size, :subscription)
          fields[-2, 2] = REASON_AND_ACTOR if types.last(2) == %w[text text]
          types.zip(arguments, fields).each do |type, argument, field|
            next unless type == "text" && argument.is_a?(String)

            text = Support::Utf8.text(argument)
            next if text.valid_encoding? && !text.include?("\0")

            raise InputError.of(field, text.scrub, "must be UTF-8 text without a null character")
          end
        end

        # Text that Active Record treats as binary, so that it does not appear in logs.
        class Payload < ActiveModel::Type::Value
          def binary? = true
        end
        private_constant :Payload

        def encoded(argument)
          argument.is_a?(Array) ? PG::TextEncoder::Array.new.encode(argument) : argument
        end

        def parsed(value)
          value.is_a?(String) && value.start_with?("{", "[") ? JSON.parse(value, max_nesting: false) : value
        end

        def sqlstate(error) = result_of(error)&.error_field(PG::PG_DIAG_SQLSTATE)

        def result_of(error) = error.cause.respond_to?(:result) ? error.cause.result : nil

        def typed(error)
          result = result_of(error) or return
          message = message_of(error)
          case (code = sqlstate(error))
          when *ERRORS_BY_CODE.keys
            ERRORS_BY_CODE[code].from_facts(message, result.error_field(PG::PG_DIAG_MESSAGE_DETAIL) || "{}")
          when "42883", "3F000", "42P01"
            FunctionsMissingError.new("#{message}: run `bin/rails g tasker_core:update` and `bin/rails db:migrate`, " \
                                      "or `bin/rails tasker_core:functions:install` if the tables exist")
          when "25006" # read_only_sql_transaction
            DatabaseError.new("the database is read only: #{message}; on a replica's connection, use the writing " \
                              "role (`ActiveRecord::Base.connected_to(role: :writing) { … }`)")
          when /\A(22|23|54)/ # data exception, constraint violation, program limit
            InputError.new("the database rejected the data: #{message}")
          end
        end
      end
    end
  end
end
