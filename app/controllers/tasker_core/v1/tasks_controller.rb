# frozen_string_literal: true

module TaskerCore
  module V1
    # Lists, creates and shows tasks.
    class TasksController < BaseController
      include RendersGraph

      FILTERS = { state: :words, status: :words, namespace: :text, workflow: :text, version: :text, tags: :texts,
                  since: :text, until: :text, correlation_id: :text, input: :object }.freeze
      OPTIONS = { idempotency_key: :text, priority: :integer, wait_until: :time, tags: :texts,
                  correlation_id: :text }.freeze
      private_constant :FILTERS, :OPTIONS

      def index
        authorize(:list, :tasks)
        page = found(query(**FILTERS, limit: :number, after: :text))
        render_page(:tasks, HTTP::Serializer.tasks(page.tasks), page.next)
      end

      def create
        given = body(namespace: :name, workflow: :name, input: :object, **OPTIONS)
        workflow = declared(given)
        authorize(:create, :tasks, workflow)
        task = workflow.set(**given.slice(*OPTIONS.keys)).create!(**given.fetch(:input, {}))
        raise IdempotencyConflictError.of(task) if task.existing?

        response.location = v1_task_url(task)
        render_json(HTTP::Serializer.task(task), status: :created)
      rescue IdempotencyConflictError => e
        raise(e.with_url { |uuid| v1_task_url(uuid) })
      end

      # Includes up to one page of steps; `next_step` is the `after` of the list of steps that continues.
      def show
        query
        task = task_for(:show)
        steps, following = WorkflowStep.page(task, limit: TaskerCore.config[:api, :max_page_size])
        render_json(HTTP::Serializer.task_with_steps(task, steps).merge(next_step: following))
      end

      def graph = render_graph { Graph.of_task(task_for(:show)) }

      def why
        query
        render_json(Diagnosis.new(task_for(:show)).to_h)
      end

      private

      def found(given)
        search = Operations::TaskSearch.new(given.except(:limit, :after))
        search.page(after: given[:after], limit: Parameters.page_size(given))
      rescue InputError => e # a filter is a parameter here
        raise ParameterError.new(e.message, facts: e.facts)
      end

      def declared(given)
        name = given.fetch(:workflow) { raise ParameterError.of(:workflow, nil, "is missing: name the workflow") }
        TaskerCore.workflow(name, **given.slice(:namespace))
      rescue UnknownWorkflowError => e
        raise InputError.of(:workflow, name, e.message)
      end
    end
  end
end
