# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # Registered versions of workflows, newest first, with recent statistics.
    class WorkflowsController < BaseController
      # All but the definitions, which may be large.
      COLUMNS = "id, namespace, name, version, created_at, definition->>'description' as description, " \
                "jsonb_array_length(definition->'steps') as step_count"
      private_constant :COLUMNS

      def index
        authorize(:list)
        found = versions.limit(page_size + 1).to_a
        @versions = found.first(page_size)
        @next = @versions.last.id if found.size > page_size
        @statistics = Statistics.new
      end

      def show
        @version = WorkflowVersion.find(params[:id])
        authorize(:show, :dashboard, @version)
        @graph = Graph.of_version(@version)
        @statistics = Statistics.new
      end

      private

      def versions
        after = after_number(nil)
        all = WorkflowVersion.select(COLUMNS).order(id: :desc)
        after ? all.where("id < ?", after) : all
      end
    end
  end
end
