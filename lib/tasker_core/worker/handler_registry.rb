# frozen_string_literal: true

module TaskerCore
  class Worker
    # Finds the code of handlers by the names that definitions give: `ChargeCard`, `OrderFulfillment#validate_order`,
    # `ChargeCardJob.perform_now`.
    #
    # @api private
    class HandlerRegistry
      # The file that calls handlers, see {Support::Failure}.
      PATH = __FILE__

      # @param workflow [Native::CompiledWorkflow]
      # @return [Array<Array(String, String)>] name and handler of each step
      def self.named(workflow)
        JSON.parse(workflow.definition_json)["steps"].map { |step| step.values_at("name", "handler") }
      end

      # @param reloading [Boolean] whether classes may be replaced; then handlers are looked up at each call
      def initialize(reloading: false)
        @reloading = reloading
        @found = Concurrent::Map.new
      end

      # @param name [String]
      # @return [#call, nil] takes a {StepContext}; nil when no such handler is defined
      def find(name)
        return lookup(name) if @reloading

        @found[name] || lookup(name)&.tap { |handler| @found[name] = handler }
      end

      # @param workflow [Native::CompiledWorkflow]
      # @return [Array<Array(String, String)>] name and handler of the steps whose handlers are not defined
      def missing(workflow)
        self.class.named(workflow).reject { |_, handler| find(handler) }
      end

      private

      def lookup(name)
        job = JobHandler.job_name(name)
        return JobHandler.named(job) if job

        class_name, method_name = name.split("#", 2)
        type = class_name.safe_constantize
        return unless type.is_a?(Class)
        return ->(context) { type.new.call(context) } if method_name.nil? && type.method_defined?(:call)

        method = method_name&.to_sym
        ->(context) { type.new.public_send(method, context) } if method && type.public_method_defined?(method)
      end
    end
  end
end
