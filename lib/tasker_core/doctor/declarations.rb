# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether the workflows declared in this process can be compiled, and their handlers are defined.
    #
    # @api private
    class Declarations < Check
      def self.needs = %w[settings versions]
      def self.check_name = "workflows"

      private

      def issues = workflows.filter_map { |workflow| declared(workflow) }

      def workflows = TaskerCore.workflows.reject { |workflow| TaskerCore::Workflows::Registry.base?(workflow) }

      def declared(workflow)
        step, handler = Worker::HandlerRegistry.new.missing(workflow.compiled).first
        return unless step

        error("#{named(workflow)}: step #{step}: handler #{handler.inspect} is not defined in this process",
              "define `class #{handler} < TaskerCore::StepHandler` where the application loads it, or correct the name")
      rescue WorkflowError => e
        error(e.message.include?(named(workflow)) ? e.message : "#{named(workflow)}: #{e.message}",
              "correct the declaration")
      end

      def named(workflow) = workflow.is_a?(Workflows::YamlFile) ? workflow.path : workflow.name

      def ok_message = "#{counted(workflows.size, 'declared workflow')}; all handlers are defined"
    end
  end
end
