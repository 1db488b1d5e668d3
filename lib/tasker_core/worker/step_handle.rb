# frozen_string_literal: true

module TaskerCore
  class Worker
    # An operator's actions on a step over the worker's own connections: returned by {TaskHandle#step}. They are those
    # of {WorkflowStep}. Parameters, result and errors: {TaskHandle#cancel!}.
    class StepHandle
      # @api private
      # @param native [Native::WorkflowStep]
      def initialize(native)
        @native = native
      end

      # See {WorkflowStep#retry!}.
      def retry!(reason:, by:) = @native.retry(reason, by&.to_s)

      # See {WorkflowStep#release!}.
      def release!(reason:, by:) = @native.release(reason, by&.to_s)

      # See {WorkflowStep#resolve!}.
      def resolve!(reason:, by:) = @native.resolve(reason, by&.to_s)

      # See {WorkflowStep#complete!}.
      # @param result [Hash]
      def complete!(result, reason:, by:)
        @native.complete(Support::JsonValue.input_json(result, "result"), reason, by&.to_s)
      end

      # See {WorkflowStep#update_result!}.
      # @param result [Hash]
      def update_result!(result, reason:, by:)
        @native.update_result(Support::JsonValue.input_json(result, "result"), reason, by&.to_s)
      end
    end
  end
end
