# frozen_string_literal: true

module TaskerCore
  class Worker
    # Writes the outcome of an attempt as JSON text; spec/fixtures/seam has an example of each.
    #
    # @api private
    module Outcome
      module_function

      # @param claim [Hash{String => Object}]
      # @param result [String] JSON text, see {result}
      # @return [String]
      def completed(claim, result) = %({"token":#{claim.fetch('token')},"outcome":"completed","result":#{result}})

      # @param error [Hash{Symbol => Object}] class, message, code and backtrace
      # @param retryable [Boolean]
      # @param retry_after [Float, nil] seconds
      # @return [String]
      def failed(claim, error:, retryable:, retry_after:)
        JSON.generate(token: claim.fetch("token"), outcome: "failed", error: error, retryable: retryable,
                      retry_after: retry_after)
      end

      # @param reason [String] why the step did not run to its end: unknown_handler, not_loaded or interrupted
      # @return [String]
      def released(claim, reason) = JSON.generate(token: claim.fetch("token"), outcome: "released", reason: reason)

      # @param value [Object] what the handler returned
      # @return [String] JSON text
      # @raise [PermanentError] when it is neither a Hash nor nil, or has no JSON representation
      def result(claim, value)
        case value
        when nil then "{}"
        when Hash then Support::JsonValue.json(value, "result")
        else
          message = "#{claim.fetch('handler')} returned #{shown(value)}: a handler returns a Hash or nil"
          raise PermanentError.new(message, code: "invalid_result")
        end
      rescue JSON::JSONError => e
        raise PermanentError.new("the result cannot be written as JSON: #{e.message}", code: "invalid_result")
      end

      # @return [String] the value and its class, for messages
      def shown(value)
        "#{TaskerCore.logging.filtered(value).inspect.truncate(80)} (#{value.class})"
      rescue StandardError => e # raised by the value's own methods
        "something that cannot be shown (#{e.class})"
      end
    end
  end
end
