# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # Registered versions of workflows, newest first, with recent statistics.
    class WorkflowsController < BaseController
      def index
        authorize(:list)
        found = WorkflowVersion.list(versions.limit(page_size + 1))
        @versions = found.first(page_size)
        @next = @versions.last.id if found.size > page_size
        @statistics = Statistics.new
      end

      def show
        @version = WorkflowVersion.without_definition.find(params[:id])
        authorize(:show, :dashboard, @version)
        @graph = Graph.of_version(@version)
        @statistics = Statistics.new
      end

      private

      def versions
        after = after_number(nil)
        all = WorkflowVersion.order(id: :desc)
        after ? all.where("id < ?", after) : all
      end
    end
  end
end
