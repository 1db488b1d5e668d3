# frozen_string_literal: true

module TaskerCore
  module HTTP
    # What somebody outside is told of an error: a problem of RFC 9457, with a status. The only place that knows which error is
    # which status. What is no error of theirs is told without a word of what happened.
    #
    # @api private
    class ProblemDetails
      MEDIA_TYPE = "application/problem+json"

      UNAVAILABLE = [503, "database-unavailable", "The database cannot be used", "try again later"].freeze
      private_constant :UNAVAILABLE

      # By class, or by one above it: status, the type's name, title; and for whom the exception's own words are not meant,
      # others.
      TABLE = {
        RequestError => [400, "malformed-request", "The request cannot be read"],
        ParameterError => [400, "parameter-refused", "A parameter is unknown or has the wrong form"],
        UnauthenticatedError => [401, "unauthenticated", "Nobody who is known sent the request"],
        ClosedError => [403, "closed", "The engine is closed"],
        ForbiddenError => [403, "forbidden", "This is not permitted"],
        UnknownResourceError => [404, "not-found", "There is no such resource"],
        TaskNotFoundError => [404, "not-found", "There is no such task"],
        UnknownStepError => [404, "not-found", "There is no such step"],
        UnknownWorkflowError => [404, "not-found", "There is no such workflow"],
        ActiveRecord::RecordNotFound => [404, "not-found", "There is no such resource", "it is not there any more"],
        TransitionError => [409, "transition-refused", "The state forbids it"],
        IdempotencyConflictError => [409, "idempotency-key-taken", "The idempotency key is taken"],
        RequestTooLargeError => [413, "request-too-large", "The body is too large"],
        MediaTypeError => [415, "media-type-refused", "The body is no JSON"],
        InputError => [422, "input-refused", "What was given does not fit"],
        UnreadableError => [500, "unreadable", "The database cannot read what it stores"],
        DatabaseError => UNAVAILABLE,
        ActiveRecord::ConnectionNotEstablished => UNAVAILABLE,
        ActiveRecord::NoDatabaseError => UNAVAILABLE,
        ActiveRecord::QueryAborted => UNAVAILABLE,
        ActiveRecord::TransactionRollbackError => UNAVAILABLE,
        StandardError => [500, "internal", "Something went wrong", "it is reported to those who run this application"]
      }.freeze

      # @return [Integer]
      attr_reader :status
      # @return [String] of its kind
      attr_reader :title

      # @param error [StandardError]
      def initialize(error)
        @error = error
        @status, @type, @title, @detail = TABLE.fetch(error.class.ancestors.find { |ancestor| TABLE.key?(ancestor) })
      end

      # @return [String] what happened this time
      def detail = @detail || @error.message

      # @return [Boolean] whether those who run the application have to look at it
      def fault? = status >= 500

      # Tells those who run the application of a fault.
      def report
        return unless fault?

        Rails.error.report(@error, handled: true, severity: :error, source: "tasker_core")
        Instrumentation.instrument("request_failed", error: @error)
      end

      # @return [Hash{String => Object}] with the facts of a refusal as members of their own; a refusal of what was given has
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

      # A refusal of the functions names the field and nothing more.
      def problems
        field = @error.facts["field"]
        field ? [{ "field" => field, "message" => @error.message.delete_prefix("#{field}: ") }] : @error.problems
      end
    end
  end
end
