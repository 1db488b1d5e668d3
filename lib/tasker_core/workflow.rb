# frozen_string_literal: true

module TaskerCore
  # A workflow as a class: a graph of steps, each of which is a method of the class or a handler class.
  #
  # @example
  #   class OrderFulfillment < TaskerCore::Workflow
  #     namespace "shop"
  #     version "1.0.0"
  #     input required: { order_id: :integer }
  #
  #     step :validate_order
  #     step :charge_card, depends_on: :validate_order, handler: ChargeCard, timeout: 30.seconds
  #
  #     def validate_order(context) = { total: Order.find(context.input["order_id"]).total }
  #   end
  #
  #   OrderFulfillment.create!(order_id: 42)
  class Workflow
    extend Workflows::Creatable
    extend Events::Declarations

    class << self
      def inherited(subclass)
        super
        TaskerCore.workflows.declare(subclass.name) if subclass.name
      end

      # Sets the namespace, within which the workflow's name is unique; `default` if it is not set.
      #
      # @param name [String, nil] letters, digits and underscores
      # @return [String]
      def namespace(name = nil)
        name ? declare(:@namespace, name.to_s) : @namespace || "default"
      end

      # Sets the version, which identifies the workflow's content permanently; by default derived from the content.
      #
      # @param version [String, nil] 1 to 50 characters without spaces
      # @return [String]
      def version(version = nil)
        version ? declare(:@version, version.to_s) : @version || compiled.version
      end

      # Sets where the steps run: `:worker`, or `:active_job` for jobs of the application's own queue (docs/queues.md).
      # A step may differ: `dispatch:`.
      #
      # @param name [Symbol, String, nil]
      # @return [Symbol, String, nil]
      def dispatch(name = nil)
        name ? declare(:@dispatch, name) : @dispatch
      end

      # Sets a description for readers of the definition.
      #
      # @param text [String, nil]
      # @return [String, nil]
      def description(text = nil)
        text ? declare(:@description, text) : @description
      end

      # Sets the workflow's name; by default the class's name without modules, in snake case.
      #
      # @param name [String, nil]
      # @return [String]
      def workflow_name(name = nil)
        name ? declare(:@workflow_name, name.to_s) : @workflow_name || self.name.to_s.demodulize.underscore
      end

      # Declares the schema of a task's input: `required:` and `optional:` fields with their types (integer, number,
      # string, boolean, array, object), or a complete JSON Schema.
      #
      # @param schema [Hash]
      # @raise [WorkflowError] when it has keys other than `required:` and `optional:`
      def input(schema)
        declare(:@input, shorthand?(schema) ? json_schema(**schema) : schema)
      rescue ArgumentError, TypeError => e # by unknown keywords
        raise WorkflowError.new("input of #{name}: #{e.message}: expected required: and optional:, each with fields " \
                                "and types")
      end

      # Declares a step. Its handler is the method of the same name, unless `handler:` names a class, or `job:` the
      # class of an Active Job.
      #
      # @param name [Symbol, String]
      # @param depends_on [Symbol, Array<Symbol>] its parents: steps that must be complete before
      # @param handler [Class, String, nil]
      # @param options [Hash] job:, arguments:, retry:, timeout:, retryable:, queue:, dispatch:, priority:, system:,
      #   config:, description:
      # @raise [WorkflowError] when given a block, which would have no effect
      def step(name, depends_on: [], handler: nil, **options, &block)
        if block
          raise WorkflowError.new("step #{name} of #{self.name} has a block, which has no effect: define the method " \
                                  "#{name}(context), or name a class with `handler:` or `job:`")
        end
        steps << { name: name, depends_on: Array(depends_on), handler: handler, **options }
        @compiled = nil
      end

      # @return [Hash] the definition, with the keys of YAML files
      def definition
        { name: workflow_name, namespace: namespace, version: @version, description: @description, dispatch: @dispatch,
          input: @input,
          steps: steps.map { |step| step[:job] ? step.compact : { **step, handler: handler_of(step) } } }.compact
      end

      # @return [Native::CompiledWorkflow]
      # @raise [WorkflowError] with every problem of the declaration
      def compiled
        @compiled ||= begin
          verify_handlers
          Workflows::JobValidator.compile(definition)
        end
      end

      private

      def steps = @steps ||= []

      def handler_of(step) = step[:handler] || "#{name}##{step[:name]}"

      def shorthand?(schema)
        return false unless schema.is_a?(Hash)

        schema[:required].is_a?(Hash) || (schema[:optional].is_a?(Hash) && !schema.key?(:required)) || schema.empty?
      end

      def json_schema(required: {}, optional: {})
        properties = required.merge(optional).transform_values { |type| type.is_a?(Hash) ? type : { type: type } }
        { type: :object, required: required.keys, properties: properties, additionalProperties: false }
      end

      # Discards the compiled workflow, so that later declarations have effect.
      def declare(variable, value)
        @compiled = nil
        instance_variable_set(variable, value)
      end

      def verify_handlers
        # Invalid names are reported with the other problems of the definition.
        named = steps.select { |step| !step[:job] && (step[:name].is_a?(Symbol) || step[:name].is_a?(String)) }
        named.each do |step|
          problem = handler_problem(step[:handler], step[:name])
          raise WorkflowError.new("step #{step[:name]} of #{name} has no handler: #{problem}") if problem
        end
      end

      def handler_problem(handler, step)
        validator = Workflows::HandlerValidator
        return validator.problem(handler) if handler
        return validator.method_problem(self, step.to_sym) if validator.defines?(self, step)

        missing_method_problem(step)
      end

      def missing_method_problem(step)
        other = "name a class with `handler:`"
        if method_defined?(step) || private_method_defined?(step)
          return "every object has a method named #{step}: rename the step, or #{other}"
        end

        "define the method #{name}##{step}(context), or #{other}"
      end
    end
  end
end
