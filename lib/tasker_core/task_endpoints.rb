# frozen_string_literal: true

module TaskerCore
  # A concern for the application's own controllers: creates tasks from requests and renders them as the API does.
  # Errors are rendered as problem details (RFC 9457), with the API's status.
  #
  # @example
  #   class OrdersController < ApplicationController
  #     include TaskerCore::TaskEndpoints
  #
  #     def create
  #       render_task create_task_from(OrderFulfillment, params, idempotency_key: "order-#{params[:order_id]}")
  #     end
  #
  #     def show = render_task(TaskerCore::Task.lookup(params[:id]))
  #   end
  module TaskEndpoints
    extend ActiveSupport::Concern

    included do
      rescue_from InputError, TaskNotFoundError, UnknownStepError, UnknownWorkflowError, TransitionError,
                  IdempotencyConflictError, with: :render_task_problem
    end

    private

    # Creates a task.
    # @param workflow [Class<Workflow>, Workflows::YamlFile]
    # @param input [Hash, ActionController::Parameters] from parameters that are not permitted, those named in the
    #   workflow's schema are used, which validates them
    # @param options [Hash] see {Workflows::Creatable#set}
    # @return [Task]
    # @raise [InputError] when the input is invalid; other errors: see {Workflows::Creatable#create!}
    def create_task_from(workflow, input, **options)
      task = workflow.set(**options).create!(**permitted_input(workflow, input))
      @created_task = task unless task.existing?
      task
    end

    # Renders a task: with status 201 if {#create_task_from} has created it, 409 if one existed with the same
    # idempotency key, or else 200.
    # @param task [Task]
    # @param steps [Boolean] whether to include its input and steps
    # @param url [String, nil] of the task
    def render_task(task, steps: false, url: nil)
      return render_task_problem(IdempotencyConflictError.of(task, url: url)) if task.existing?

      created = task.equal?(@created_task)
      response.location = url if created && url
      body = steps ? HTTP::Serializer.task_with_steps(task) : HTTP::Serializer.task(task)
      render json: JSON.generate(body, max_nesting: 0), status: created ? :created : :ok
    end

    # Renders an error as problem details.
    # @param error [Error]
    def render_task_problem(error)
      problem = HTTP::ProblemDetails.new(error)
      render json: problem.to_json, status: problem.status, content_type: HTTP::ProblemDetails::MEDIA_TYPE
    end

    # Without names in a schema, Rails rejects parameters that are not permitted.
    def permitted_input(workflow, input)
      names = input_names(workflow) if input.respond_to?(:permitted?) && !input.permitted?
      names ? input.to_unsafe_h.slice(*names) : input.to_h
    end

    def input_names(workflow)
      schema = JSON.parse(workflow.compiled.definition_json)["input_schema"]
      schema["properties"]&.keys if schema.is_a?(Hash)
    end
  end
end
