# frozen_string_literal: true

require_relative "effects"
require_relative "servers"
require_relative "disturbances"

module Chaos
  # All facts after a campaign: the content of the database, and the records of handlers and of the load. Tasks are
  # identified by UUID, and times are those of the effects, because fail-overs reset the database's numbers, and jumps
  # its clock.
  class History
    Task = Struct.new(:id, :state, :number, keyword_init: true)
    Step = Struct.new(:task, :position, :name, :state, :result, :parents, keyword_init: true) do
      def key = [task, name]
    end
    Attempt = Struct.new(:task, :step, :token, :outcome, keyword_init: true) do
      def key = [task, step]

      def execution = [token, task, step]
    end

    Event = Struct.new(:event, :name, :task, :step, keyword_init: true)

    attr_reader :tasks, :steps, :attempts, :effects, :delivered, :created, :confirmed, :rolled_back, :findings,
                :leftovers, :acted_on, :gone, :disturbances

    # @param delivered [Array<Event>] the events that a durable subscriber received, in its order
    # @param created [Array<String>] tasks with a companion row from the transaction that created them
    # @param confirmed [Array<String>] tasks whose commit was confirmed to the load
    # @param rolled_back [Array<String>]
    # @param findings [Array<#to_s>] of an audit
    # @param leftovers [Hash{String => Integer}] live rows and processes after all workers have left
    # @param acted_on [Array<Array>] task and step of each operator action
    # @param gone [Remains] what fail-overs have lost
    # @param disturbances [Disturbances]
    def initialize(tasks:, steps:, attempts:, effects:, delivered:, created:, confirmed:, rolled_back:, findings: [],
                   leftovers: {}, acted_on: [], gone: Remains::NONE, disturbances: Disturbances.new)
      @tasks = tasks
      @steps = steps
      @attempts = attempts
      @effects = effects
      @delivered = delivered
      @created = created
      @confirmed = confirmed
      @rolled_back = rolled_back
      @findings = findings
      @leftovers = leftovers
      @acted_on = acted_on
      @gone = gone
      @disturbances = disturbances
    end

    # Reads it from the database and the directory of effects.
    def self.read(url, directory, **facts)
      connection = PG.connect(url)
      connection.type_map_for_results = PG::BasicTypeMapForResults.new(connection)
      new(tasks: rows(connection, Task, TASKS), attempts: rows(connection, Attempt, ATTEMPTS),
          steps: rows(connection, Step, STEPS) { |row| row.merge(parents: row[:parents].to_s.split(",")) },
          effects: Effects.read(directory), delivered: rows(connection, Event, DELIVERED),
          created: connection.exec("select task::text from chaos_created").column_values(0),
          findings: TaskerCore::Operations::Audit.new.to_a,
          leftovers: LEFTOVERS.to_h { |table| [table, count(connection, table)] },
          acted_on: connection.exec(ACTED_ON).values, **facts)
    ensure
      connection&.close
    end

    def self.rows(connection, kind, sql)
      connection.exec(sql).map do |row|
        row = row.transform_keys(&:to_sym)
        kind.new(**(block_given? ? yield(row) : row))
      end
    end

    def self.count(connection, table) = connection.exec("select count(*) from tasker_#{table}").getvalue(0, 0)
    private_class_method :rows, :count

    NAMES = "join tasker_step_definitions d using (workflow_version_id, position)"
    TASKS = "select uuid::text as id, state, (input->>'n')::integer as number from tasker_tasks " \
            "join tasker_task_inputs on task_id = id"
    # Without the filler of large results.
    STEPS = "select t.uuid::text as task, s.position, d.name, s.state, (s.result - 'filler') as result, " \
            "array_to_string(array(select p.name from tasker_step_definitions p where p.workflow_version_id = " \
            "t.workflow_version_id and p.position = any(d.dependencies)), ',') as parents " \
            "from tasker_workflow_steps s join tasker_tasks t on t.id = s.task_id #{NAMES}".freeze
    ATTEMPTS = "select t.uuid::text as task, d.name as step, a.token, a.outcome from tasker_step_attempts a " \
               "join tasker_tasks t on t.id = a.task_id #{NAMES} order by a.token".freeze
    DELIVERED = "select event::text, name, task::text, step from chaos_deliveries order by number"
    ACTED_ON = "select t.uuid::text, d.name from tasker_task_events e join tasker_tasks t on t.id = e.task_id " \
               "#{NAMES} where e.position is not null".freeze
    LEFTOVERS = %w[ready_steps claimed_steps waiting_steps processes outbox_events].freeze
    private_constant :NAMES, :TASKS, :STEPS, :ATTEMPTS, :DELIVERED, :ACTED_ON, :LEFTOVERS
  end
end
