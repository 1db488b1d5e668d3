# frozen_string_literal: true

module TaskerCore
  module V1
    # Registered versions of workflows, newest first.
    class WorkflowsController < BaseController
      include RendersGraph

      def index
        authorize(:list, :workflows)
        given = query(namespace: :text, name: :text, limit: :number, after: :number)
        render_versions(:workflows, WorkflowVersion.where(given.slice(:namespace, :name)), given)
      end

      def show
        authorize(:list, :workflows)
        given = query(limit: :number, after: :number)
        versions = WorkflowVersion.where(path)
        raise UnknownWorkflowError.new("no workflow #{path.values.join('.')} is registered") unless versions.exists?

        render_versions(:versions, versions, given, **path)
      end

      def version
        query
        render_json(HTTP::Serializer.workflow(version_for(:show), definition: true))
      end

      def graph = render_graph { Graph.of_version(version_for(:show)) }

      private

      def path = { namespace: params[:namespace], name: params[:name] }

      def version_for(action)
        version = registered or
          raise UnknownWorkflowError.new("no workflow #{path.values.join('.')} #{params[:version]} is registered")
        version.tap { authorize(action, :workflows, version) }
      end

      # PostgreSQL text cannot contain a null byte.
      def registered
        return if params[:version].include?("\0")

        WorkflowVersion.without_definition.find_by(**path, version: params[:version])
      end

      def render_versions(name, versions, given, **others)
        limit = Parameters.page_size(given)
        versions = versions.where("id < ?", given[:after]) if given[:after]
        rows, following = page_of(WorkflowVersion.list(versions.order(id: :desc).limit(limit + 1)), limit, &:id)
        render_page(name, rows.map { |version| HTTP::Serializer.workflow(version) }, following, **others)
      end
    end
  end
end
