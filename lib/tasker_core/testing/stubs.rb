# frozen_string_literal: true

module TaskerCore
  module Testing
    # The stubbed handlers of a test.
    #
    # @api private
    class Stubs
      # A claim for contexts without a task.
      CLAIM = {
        "token" => 1, "task_id" => 1, "task_uuid" => "00000000-0000-7000-8000-000000000001", "position" => 0,
        "step" => "step", "workflow" => "workflow", "namespace" => "default", "version" => "1",
        "handler" => "handler", "attempt" => 1,
        "max_attempts" => 3, "timeout_ms" => 300_000, "queue" => "default", "system" => nil,
        "correlation_id" => "00000000-0000-7000-8000-000000000002", "parent_correlation_id" => nil, "tags" => [],
        "input" => {}, "config" => {}, "dependencies" => [], "results" => {}
      }.freeze

      # @param facts [Hash{String => Object}] override those of {CLAIM}
      # @return [Hash{String => Object}]
      # @raise [ArgumentError] with the nearest fact when one is unknown
      def self.claim(facts)
        unknown = (facts.keys - CLAIM.keys).first or return CLAIM.merge(facts)

        remedy = Support::Spelling.remedy(unknown, CLAIM.keys)
        raise ArgumentError, "step_context: #{unknown} is an unknown fact: #{remedy}"
      end

      def initialize
        @stubs = {}
      end

      # @param workflow [Class<Workflow>, Workflows::YamlFile]
      # @param step [Symbol, String]
      # @param handler [#call]
      # @param attempts [Integer, nil] number of attempts that are stubbed; nil: all
      # @raise [UnknownStepError]
      def add(workflow, step, handler, attempts: nil)
        names = workflow.compiled.step_names
        what = "is not a step of #{workflow.workflow_name}"
        raise UnknownStepError.of(step, names, what) unless names.include?(step.to_s)

        @stubs[[workflow.namespace, workflow.workflow_name, step.to_s]] = [handler, attempts]
      end

      # @param claim [Hash{String => Object}]
      # @return [#call, nil]
      def find(claim)
        handler, attempts = @stubs[claim.values_at("namespace", "workflow", "step")]
        handler if attempts.nil? || claim.fetch("attempt") <= attempts
      end
    end
  end
end
