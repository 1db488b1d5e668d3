# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker workflows`: lists the workflows that the application declares and all stored versions. Exits with 1 if a
    # declared workflow cannot be compiled.
    #
    # @api private
    class Workflows < Command
      include Application
      include Terminal::Units

      COLUMNS = [
        Terminal::Table::Column.new(heading: "WORKFLOW", shrinks: true),
        Terminal::Table::Column.new(heading: "VERSION"), Terminal::Table::Column.new(heading: "STEPS"),
        Terminal::Table::Column.new(heading: "DECLARED IN", shrinks: true),
        Terminal::Table::Column.new(heading: "REGISTERED (UTC)")
      ].freeze
      private_constant :COLUMNS

      private

      def perform
        rows = registered
        problems = declare(rows)
        workflows = rows.values.sort_by { |row| row.values_at(:namespace, :name, :created_at).map(&:to_s) }
        @json ? print_json(workflows: workflows, problems: problems) : print_text(workflows, problems)
        problems.empty? ? 0 : REJECTED
      end

      def registered
        WorkflowVersion.list(WorkflowVersion.all).to_h do |version|
          [key(version.namespace, version.name, version.version), row(version)]
        end
      end

      def row(version) = HTTP::Serializer.workflow(version).merge(declared_in: nil)

      # Adds the declared workflows; returns those that cannot be compiled.
      def declare(rows)
        TaskerCore.workflows.filter_map do |workflow|
          compiled = workflow.compiled
          known = rows[key(compiled.namespace, compiled.name, compiled.version)] ||= unregistered(compiled)
          known[:declared_in] = place(workflow)
          nil
        rescue WorkflowError => e
          next if TaskerCore::Workflows::Registry.base?(workflow)

          { workflow: place(workflow), message: e.message }
        end
      end

      def key(*names) = names

      # A workflow is registered by its first task or by a worker.
      def unregistered(compiled)
        { namespace: compiled.namespace, name: compiled.name, version: compiled.version, digest: compiled.digest,
          description: JSON.parse(compiled.definition_json)["description"], steps: compiled.step_names.size,
          created_at: nil }
      end

      def place(workflow)
        return workflow.name unless workflow.is_a?(TaskerCore::Workflows::YamlFile)

        Support::HostApplication.relative(workflow.path)
      end

      def print_text(workflows, problems)
        if workflows.any?
          @out.puts Terminal::Table.new(terminal, COLUMNS).lines(workflows.map { |workflow| cells(workflow) })
        else
          @out.puts "there are no workflows: declare one in app/workflows or config/tasker/workflows"
        end
        problems.each { |problem| @err.puts Support::VisibleText.lines("tasker: #{problem[:workflow]}: #{problem[:message]}") }
      end

      def cells(workflow)
        ["#{workflow[:namespace]}.#{workflow[:name]}", workflow[:version], workflow[:steps],
         workflow[:declared_in] || "-", moment(workflow[:created_at])]
      end
    end
  end
end
