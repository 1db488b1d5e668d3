# frozen_string_literal: true

module TaskerCore
  module HTTP
    # An error as a problem of RFC 9457, with its HTTP status. The only place that maps errors to statuses. Unexpected
    # errors become a generic 500 without details.
    #
    # @api private
    class ProblemDetails
      MEDIA_TYPE = "application/problem+json"

      UNAVAILABLE = [503, "database-unavailable", "The database cannot be used", "try again later"].freeze
      private_constant :UNAVAILABLE

      # By class or superclass: status, name of the type, title, and a detail if the exception's message is not for
      # clients.
      TABLE = {
        RequestError => [400, "malformed-request", "The request cannot be read"],
        ParameterError => [400, "parameter-refused", "A parameter is unknown or has the wrong form"],
        UnauthenticatedError => [401, "unauthenticated", "Authentication is required"],
        ClosedError => [403, "closed", "The engine is closed"],
        ForbiddenError => [403, "forbidden", "Not permitted"],
        UnknownResourceError => [404, "not-found", "Resource not found"],
        TaskNotFoundError => [404, "not-found", "Task not found"],
        UnknownStepError => [404, "not-found", "Step not found"],
        UnknownWorkflowError => [404, "not-found", "Workflow not found"],
        ActiveRecord::RecordNotFound => [404, "not-found", "Resource not found", "it no longer exists"],
        TransitionError => [409, "transition-refused", "The state forbids the action"],
        IdempotencyConflictError => [409, "idempotency-key-taken", "The idempotency key is taken"],
        RequestTooLargeError => [413, "request-too-large", "The body is too large"],
        MediaTypeError => [415, "media-type-refused", "The body is not JSON"],
        InputError => [422, "input-refused", "The input is invalid"],
        UnreadableError => [500, "unreadable", "The database cannot read stored data"],
        DatabaseError => UNAVAILABLE,
        ActiveRecord::ConnectionNotEstablished => UNAVAILABLE,
        ActiveRecord::NoDatabaseError => UNAVAILABLE,
        ActiveRecord::QueryAborted => UNAVAILABLE,
        ActiveRecord::TransactionRollbackError => UNAVAILABLE,
        StandardError => [500, "internal", "Something went wrong",
                          "the error has been reported to the operators of this application"]
      }.freeze

      # @return [Integer]
      attr_reader :status
      # @return [String] the title of its type
      attr_reader :title

      # @param error [StandardError]
      def initialize(error)
        @error = Postgres::Functions.unreadable(error, "something that the request needs") || error
        @status, @type, @title, @detail = TABLE.fetch(@error.class.ancestors.find { |ancestor| TABLE.key?(ancestor) })
      end

      # @return [String] the message of this occurrence
      def detail = @detail || @error.message

      # @return [Boolean] whether it is an error of the server
      def fault? = status >= 500

      # Reports a server error to Rails' error reporter and the log.
      def report
        return unless fault?

        Rails.error.report(@error, handled: true, severity: :error, source: "tasker_core")
        Instrumentation.instrument("request_failed", error: @error)
      end

      # @return [Hash{String => Object}] the problem, with the error's facts as further members; an invalid input has
      #   `problems`, each with field, value, kind and message
      def to_h
        { "type" => "urn:tasker-core:#{@type}", "title" => @title, "status" => status, "detail" => detail }
          .merge(facts) { |_, own, _| own }
      end

      # @return [String]
      def to_json(*) = JSON.generate(to_h)

      # @return [Hash{String => String}]
      def headers = @error.is_a?(UnauthenticatedError) ? { "WWW-Authenticate" => @error.challenge } : {}

      private

      def facts
        return {} if @detail
        return @error.facts unless @error.is_a?(InputError)

        @error.facts.except("field").merge("problems" => problems)
      end

      # An error of the SQL functions has only the field.
      def problems
        field = @error.facts["field"]
        field ? [{ "field" => field, "message" => @error.message.delete_prefix("#{field}: ") }] : @error.problems
      end
    end
  end
end
