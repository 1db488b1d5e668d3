# frozen_string_literal: true

require "after_commit_everywhere"

module TaskerCore
  module Workflows
    # Creates tasks of a workflow with options; returned by {Creatable#set}. Stage 1 of a step's life
    # (docs/walkthrough.md).
    class TaskCreation
      # Bytes: the key is in an index, beside the workflow's name.
      LONGEST_KEY = 1000
      CREATED = "task.created"
      private_constant :LONGEST_KEY, :CREATED

      # @api private see {Creatable#set}
      def initialize(workflow, idempotency_key: nil, priority: 0, wait_until: nil, correlation_id: nil, tags: [])
        @compiled = workflow.compiled
        @options = { idempotency_key: idempotency_key&.to_s, priority: priority, wait_until: wait_until,
                     correlation_id: correlation_id, tags: tags }
      end

      # @param input [Hash]
      # @return [Task] see {Creatable#create!}
      def create!(**input) = create_all!([input]).first

      # @param inputs [Array<Hash>]
      # @return [Array<Task>] see {Creatable#create_all!}
      def create_all!(inputs)
        return [] if inputs.empty?

        requests = inputs.map { |input| request(input) }
        ApplicationRecord.on_connection do |connection|
          Postgres::Functions.ensure_current(connection)
          created = call(connection, requests)
          AfterCommitEverywhere.after_commit(connection: connection) { committed(created) }
          tasks(created)
        end
      end

      private

      def call(connection, requests)
        inputs = requests.map { |request| request[:input] }
        Instrumentation.instrument("create_tasks", workflow: @compiled.name, inputs: inputs) do |facts|
          created = Tracing.create(@compiled, requests.size) do |trace_context|
            requests = requests.map { |request| request.merge(trace_context: trace_context) } if trace_context
            stored(connection, JSON.generate(requests, max_nesting: 0))
          end
          facts.update(task_ids: created.map { _1["id"] }, existing: created.count { _1["existing"] },
                       correlation_ids: created.map { _1["correlation_id"] })
          created
        end
      end

      def stored(connection, text)
        registered(connection) { |known| Postgres::Functions.call(connection, :create_tasks, text, known) }
      end

      def request(input)
        value = Support::JsonValue.of(input, "input")
        @compiled.validate_input(JSON.generate(value, max_nesting: 0))
        { namespace: @compiled.namespace, workflow: @compiled.name, version: @compiled.version,
          digest: @compiled.digest, input: value, **checked_options.merge(correlation) }
      rescue InputError => e
        raise e.filtered(TaskerCore.logging), cause: nil # the cause would show the filtered values
      rescue Support::JsonValue::Unwritable => e
        raise InputError.unwritable("input", e)
      end

      # The given or the current id; in a handler, also the id of its task as the parent's.
      def correlation
        { "correlation_id" => @options[:correlation_id]&.to_s || Correlation.current,
          "parent_correlation_id" => Correlation::Context.current&.task_correlation_id }
      end

      def checked_options
        @checked_options ||= begin
          check(:idempotency_key, "a string of up to #{LONGEST_KEY} bytes") { _1.nil? || key?(_1) }
          check(:priority, "an integer from -32768 to 32767") { _1.is_a?(Integer) && _1.between?(-32_768, 32_767) }
          check(:wait_until, Support::TimeParser::EXAMPLES) { _1.nil? || Support::TimeParser.read(_1) }
          check(:correlation_id, "a UUID") { _1.nil? || _1.to_s.match?(Correlation::UUID) }
          check(:tags, "an array of strings") { _1.is_a?(Array) && _1.all? { |tag| tag?(tag) } }
          Support::JsonValue.of(@options.merge(wait_until: Support::TimeParser.read(@options[:wait_until])&.iso8601(6)))
        end
      end

      def key?(value) = text?(value) && value.bytesize <= LONGEST_KEY

      def tag?(value) = text?(value.is_a?(Symbol) ? value.name : value)

      # Whether PostgreSQL can store it.
      def text?(value)
        value.is_a?(String) &&
          value.encode(Encoding::UTF_8).then { |text| text.valid_encoding? && !text.include?("\0") }
      rescue EncodingError
        false
      end

      def check(option, remedy)
        value = @options[option]
        return if yield value

        raise InputError.of(option, value, "must be #{remedy}")
      end

      # Registers the workflow's version if it is missing. The statement that creates the tasks looks it up each time: a
      # version remembered here could be gone after a truncation, a restore or retention.
      # @yieldparam known [Boolean] whether the statement returns nil for a missing version, instead of raising an error
      def registered(connection)
        yield(true) || begin
          Postgres::Functions.call(connection, :register_workflow, @compiled.definition_json)
          yield(false)
        end
      end

      # Publishes the creation before it notifies workers.
      def committed(created)
        publish_created(created.reject { _1["existing"] }) if TaskerCore.events.listeners?(CREATED)
        Worker::Wakeup.send_for(created.flat_map { _1["queues"] })
      end

      def publish_created(created)
        created.each do |task|
          facts = { task_id: task["id"], task_uuid: task["uuid"], namespace: @compiled.namespace,
                    workflow: @compiled.name, version: @compiled.version }
          TaskerCore.events.publish(CREATED, facts, correlation_id: task["correlation_id"])
        end
      end

      def tasks(created)
        by_id = Task.where(id: created.map { _1["id"] }).index_by(&:id)
        created.map { |row| row["existing"] ? by_id.fetch(row["id"]).dup_as_existing : by_id.fetch(row["id"]) }
      end
    end
  end
end
