# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # Lists tasks, and shows one with its diagnosis.
    class TasksController < BaseController
      # A larger graph has a page of its own.
      LARGEST_GRAPH = 100
      private_constant :LARGEST_GRAPH

      def index
        authorize(:list)
        @filter = Filter.new(request.query_parameters)
        page = @filter.search.page(after: params[:after].presence, limit: page_size)
        @tasks = HTTP::Serializer.tasks(page.tasks)
        @next = page.next
        refresh_page if params[:after].blank? && @tasks.any? { |task| task[:ended_at].nil? }
      rescue InputError => e
        @refusal = e.message
        @tasks = []
        render status: :bad_request
      end

      def show
        @task = task_for(:show)
        @context = @task.execution_context
        @reasons = Diagnosis.new(@task).reasons
        @steps = Steps.new(@task, after: after_number(-1), limit: page_size)
        @graph = Graph.of_task(@task) if @context["total_steps"] <= LARGEST_GRAPH
        @events = events
        @done = @events.find { |event| event.id.to_s == params[:done] }
        refresh_page unless Task::ENDED.include?(@context["state"])
      end

      def graph
        @task = task_for(:show)
        @graph = Graph.of_task(@task)
      end

      private

      def events
        latest = @task.events.reorder(id: :desc).limit(page_size)
        ApplicationRecord.reading("the events of task #{@task.id}") { latest.to_a }
      rescue UnreadableError => e
        @unreadable_events = e.message
        []
      end

      def task_for(action) = Task.lookup(params[:id]).tap { |task| authorize(action, :dashboard, task) }
    end
  end
end
