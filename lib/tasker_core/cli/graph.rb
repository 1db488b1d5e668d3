# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker graph`: draws a task with the states of its steps, a declared or stored workflow, or a workflow file,
    # which needs no application.
    #
    # @api private
    class Graph < Command
      include Application

      ARGUMENTS = %w[WORKFLOW|TASK].freeze
      FORMATS = { "text" => :to_text, "mermaid" => :to_mermaid, "svg" => :to_svg }.freeze
      BY_EXTENSION = { ".svg" => "svg", ".mmd" => "mermaid" }.freeze
      private_constant :FORMATS, :BY_EXTENSION

      private

      # What to load depends on the argument.
      def prepare; end

      def options(parser)
        parser.on("--format FORMAT",
                  "#{FORMATS.keys.join(', ')} (default: by the output's extension, or text)") do |format|
          @format = format
        end
        parser.on("--output FILE", "write the graph to a file") { @output = _1 }
        super
      end

      def verify(values)
        super
        raise UsageError, "graph: --json cannot be combined with --format or --output" if @json && (@format || @output)

        @format ||= BY_EXTENSION.fetch(File.extname(@output.to_s), "text")
        return if FORMATS.key?(@format)

        raise UsageError, "--format: #{@format} must be one of #{FORMATS.keys.join(', ')}"
      end

      def perform(name)
        graph = graph(name)
        return print_json(graph.to_h) || 0 if @json

        @output ? write(graph) : print(graph)
        0
      end

      def graph(name)
        return TaskerCore::Graph.of_workflow(TaskerCore::Workflows::YamlFile.new(name)) if name.match?(/\.ya?ml\z/)

        load_application
        workflow = declared(name)
        return TaskerCore::Graph.of_workflow(workflow) if workflow

        verify_database
        return TaskerCore::Graph.of_task(Task.lookup(name)) if name.match?(/\A\d+\z/) || name.match?(Correlation::UUID)

        TaskerCore::Graph.of_version(stored(name))
      end

      def declared(name)
        named = TaskerCore.workflows.select { |workflow| [workflow.workflow_name, full_name(workflow)].include?(name) }
        return named.first if named.size < 2

        names = named.map { full_name(_1) }.sort.join(", ")
        raise UsageError, "graph: #{name} exists in several namespaces: use one of #{names}"
      end

      # The version that was registered last.
      def stored(name)
        *namespace, workflow = name.split(".", 2)
        filter = { name: workflow, namespace: namespace.first }.compact
        WorkflowVersion.without_definition.where(filter).order(:id).last || raise(unknown(name))
      end

      def unknown(name)
        stored = WorkflowVersion.distinct.pluck(:namespace, :name).map { |names| names.join(".") }
        known = stored | TaskerCore.workflows.map { |workflow| full_name(workflow) }
        names = known + known.map { |full_name| full_name.split(".", 2).last }
        nearest = Support::Spelling.nearest(name, names)
        UnknownWorkflowError.new("graph: there is no workflow #{Support::VisibleText.line(name)}: " \
                                 "#{nearest ? "did you mean #{nearest}?" : '`tasker workflows` lists them'}")
      end

      def full_name(workflow) = "#{workflow.namespace}.#{workflow.workflow_name}"

      def print(graph)
        return @out.puts graph.public_send(FORMATS.fetch(@format)) unless @format == "text"

        @out.puts terminal.paint(Support::VisibleText.line(graph.title), :bold)
        graph.nodes.each { |node| @out.puts terminal.node(node) }
      end

      def write(graph)
        File.write(@output, graph.public_send(FORMATS.fetch(@format)))
        @out.puts Support::VisibleText.line("#{@output}: #{graph.title}")
      rescue SystemCallError => e
        raise UsageError, "--output #{@output}: #{e.message}"
      end
    end
  end
end
