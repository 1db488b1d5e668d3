# frozen_string_literal: true

module TaskerCore
  module Workflows
    # Checks the handlers of a workflow when it is compiled, so that one that cannot be called is rejected before a task
    # exists. An undefined name is no problem here: another process may have the handler.
    #
    # @api private
    module HandlerValidator
      module_function

      # @param handler [Class, Module, String] of a step: `ChargeCard`, or `OrderFulfillment#validate_order`
      # @return [String, nil] the problem and its remedy
      def problem(handler)
        name, method = handler.to_s.split("#", 2)
        type = handler.is_a?(Module) ? handler : name.to_s.safe_constantize
        return if type.nil?
        return "#{handler} is an Active Job: name it with `job:`" if Worker::JobHandler.job?(type)
        return "#{handler} is of the class #{type.class}, and must be a class" unless type.is_a?(Class)

        method_problem(type, method ? method.to_sym : :call) || constructor_problem(type)
      end

      # @param type [Class]
      # @param method [Symbol] to be called with the context
      # @return [String, nil] the problem and its remedy
      def method_problem(type, method)
        shown = "#{type.name || 'the class'}##{method}"
        return "#{shown} is not defined: define #{method}(context)" unless defines?(type, method)
        return "#{shown} is not public" unless type.public_method_defined?(method)
        return if callable?(type.instance_method(method), 1)

        "#{shown} cannot be called with one argument: define #{method}(context)"
      end

      # Ignores the methods of every object, and StepHandler#call, which only raises.
      # @param type [Class]
      # @param method [Symbol, String]
      # @return [Boolean]
      def defines?(type, method)
        return false unless type.method_defined?(method) || type.private_method_defined?(method)

        owner = type.instance_method(method).owner
        owner != StepHandler && !Object.ancestors.include?(owner)
      end

      def constructor_problem(type)
        return if callable?(type.instance_method(:initialize), 0)

        "#{type.name || 'the class'} cannot be made without arguments: a handler is made with `new` for each attempt"
      end

      def callable?(method, count)
        kinds = method.parameters.map(&:first)
        required = kinds.count(:req)
        return false if kinds.include?(:keyreq) || required > count

        kinds.include?(:rest) || required + kinds.count(:opt) >= count
      end
      private_class_method :constructor_problem, :callable?
    end
  end
end
