# frozen_string_literal: true

module TaskerCore
  class Worker
    # Builds the {StepContext} of a claim. The context reads what the claim omits when the handler asks for it.
    #
    # @api private
    class ContextBuilder
      # @param source [Native::Orchestrator, #ancestor_results, #task_input, #revoked?] reads by a claim's token:
      #   results of earlier steps (see {StepResults}) and the task's input, as JSON text; whether the lease was revoked
      # @param systems [Hash{String => ExternalSystem}] by the name that a step gives as `system:`
      def initialize(source, systems: {})
        @source = source
        @systems = systems
      end

      # @param claim [Hash{String => Object}] see `spec/fixtures/seam/claim.json`
      # @return [StepContext]
      def build(claim)
        token = claim.fetch("token")
        StepContext.new(claim, ancestors: ->(names, after) { ancestors(claim, names, after) },
                               task_input: -> { read(claim, "the task's input") { @source.task_input(token) } },
                               cancelled: -> { @source.revoked?(token) }, systems: @systems)
      end

      private

      def ancestors(claim, names, after)
        what = names&.one? ? "the result of `#{names.first}`" : "the results of the steps before it"
        bytes = nil
        response = read(claim, what) do
          @source.ancestor_results(claim.fetch("token"), names, after).tap { |text| bytes = text.bytesize }
        end
        response.merge("bytes" => bytes)
      end

      # Raises a permanent error for what the database cannot read: another attempt would fail in the same way.
      def read(claim, what)
        Support::JsonValue.parse(yield)
      rescue InputError, DatabaseError => e
        message = "step #{claim.fetch('step')}: #{what} cannot be read: #{e.message}"
        raise RetryableError.new(message) unless e.is_a?(InputError) || e.facts["damaged"]

        raise PermanentError.new(message, code: "unreadable_payload")
      end
    end
  end
end
