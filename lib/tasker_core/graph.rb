# frozen_string_literal: true

module TaskerCore
  # The graph of a task or of a workflow for people: the order of the steps, and the state of each.
  #
  # @example
  #   puts TaskerCore::Graph.of_task(task).to_text
  #   File.write("order.svg", TaskerCore::Graph.of_workflow(OrderFulfillment).to_svg)
  class Graph
    # A step. `dependencies` are names; `level` is 0 for a root, and one more than its lowest parent's for all others.
    # `state`, `attempts`, `error` (the first line of the last failure) and `waiting_reason` are nil in a workflow's
    # graph, `job` (the class of an Active Job that it runs) is nil in a task's.
    Node = Struct.new(:name, :dependencies, :level, :state, :attempts, :error, :waiting_reason, :job,
                      keyword_init: true) do
      # @return [String, nil] details of its state: "attempt 2: the card was declined"
      def note = [about.join(", ").presence, error].compact.join(": ").presence

      # @return [Array<String>] what it waits for, its attempt unless it is the first, and its job
      def about
        [WAITS[waiting_reason], ("attempt #{attempts}" if attempts.to_i > 1), ("job #{job}" if job)].compact
      end
    end

    # What a waiting step waits for.
    WAITS = { "retry" => "for the next attempt", "delay" => "scheduled", "limited" => "for capacity",
              "unknown_handler" => "for a worker that defines the handler",
              "not_loaded" => "until the code can be loaded",
              "not_enqueued" => "until the job queue accepts the job",
              "unreadable" => "for repair of damaged rows" }.freeze

    # The mark of each state; others have a dot.
    MARKS = { "complete" => "✔", "error" => "✘", "in_progress" => "▶", "waiting" => "…", "ready" => "•",
              "cancelled" => "✘", "resolved_manually" => "✔" }.freeze

    STEPS = <<~SQL.freeze
      select name, dependencies, state, attempts, waiting_reason,
        case when state <> 'complete' then last_error->>'message' end as error
      from #{Postgres::Functions::SCHEMA}.step_states(array[$1::bigint])
      order by position
    SQL
    READABLE_STEPS = STEPS.sub("last_error", "#{Postgres::Functions::SCHEMA}.readable_error(task_id, position)").freeze
    private_constant :STEPS, :READABLE_STEPS

    class << self
      # @param task [Task]
      # @return [Graph] with the states of its steps
      def of_task(task)
        steps = ApplicationRecord.reading_either("the steps of task #{task.id}", STEPS, READABLE_STEPS) do |sql|
          Postgres::Rows.read(sql, task.id)
        end
        new("task #{task.id}: #{task.workflow_version.title}", steps)
      end

      # @param version [WorkflowVersion]
      # @return [Graph] of its stored steps
      def of_version(version) = new(version.title, version.steps)

      # @param workflow [Class<Workflow>, Workflows::YamlFile]
      # @return [Graph] of its compiled definition
      # @raise [WorkflowError] when it cannot be compiled
      def of_workflow(workflow)
        definition = JSON.parse(workflow.compiled.definition_json)
        new("#{definition['namespace']}.#{definition['name']} #{definition['version']}",
            definition["steps"].sort_by { |step| step["position"] })
      end
    end

    # @return [String] the task or the workflow
    attr_reader :title

    # @return [Array<Node>] parents first
    attr_reader :nodes

    # @api private
    # @param steps [Array<Hash>] by position, parents first: name and dependencies (positions); in a workflow's graph
    #   handler; in a task's graph state, attempts, waiting_reason and error
    def initialize(title, steps)
      @title = title
      @nodes = steps.each_with_object([]) do |step, nodes|
        parents = step["dependencies"].map { |position| nodes[position] }
        nodes << Node.new(name: step["name"], dependencies: parents.map(&:name),
                          level: (parents.map(&:level).max || -1) + 1,
                          job: Worker::JobHandler.job_name(step["handler"].to_s),
                          **step.slice("state", "attempts", "waiting_reason").symbolize_keys,
                          error: step["error"] && Support::Failure.headline(step["error"])).freeze
      end.freeze
    end

    # @return [Array<Array(String, String)>] parent and child
    def edges = nodes.flat_map { |node| node.dependencies.map { |parent| [parent, node.name] } }

    # @return [Hash] title, nodes and edges, for JSON
    def to_h
      { title: title, nodes: nodes.map { |node| node.to_h.except(:job).merge(note: node.note) },
        edges: edges.map { |parent, child| { from: parent, to: child } } }
    end

    # @return [String] a line for each step, indented by its level
    def to_text = Text.new(self).to_s

    # @return [String] a Mermaid flowchart. By default Mermaid draws up to 500 edges.
    def to_mermaid = Mermaid.new(self).to_s

    # @yieldparam node [Node] without a block, no box is a link
    # @yieldreturn [String, nil] the link of the step's box
    # @return [String] an SVG document, which may be embedded in HTML
    def to_svg(&link) = Svg.new(self, &link).to_s
  end
end
