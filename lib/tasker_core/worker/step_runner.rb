# frozen_string_literal: true

require "timeout"

module TaskerCore
  class Worker
    # Runs one attempt: from a claim (JSON text) to an outcome (JSON text). Stop 4 of a step's life.
    #
    # Whatever a handler does, there is an outcome. What is raised becomes data here and nowhere else.
    #
    # @api private
    class StepRunner
      # How deep a payload may be is checked where it comes in (limits.payload_depth); in a claim it lies deeper.
      PARSING = { freeze: true, max_nesting: false }.freeze
      private_constant :PARSING

      # @param handlers [HandlerRegistry]
      # @param host [HostApplication] around each attempt
      # @param ancestors [#call] takes a token, names, and a position; returns JSON text: results of steps before that one, see
      #   {StepResults}
      # @param inputs [#call] takes a token, returns JSON text: the task's input, for a claim that came without it
      # @param revoked [#call] takes a token, answers whether its lease was taken away
      # @param watchdog [Watchdog] for handlers that do not end when their time limit has passed
      # @param error_reporter [ErrorReporter, nil] which keeps the exceptions of failed attempts
      # @param systems [Hash{String => ExternalSystem}] that steps may name
      def initialize(handlers:, ancestors:, inputs:, revoked:, watchdog:, systems: {}, host: HostApplication.new(nil),
                     error_reporter: nil)
        @handlers = handlers
        @host = host
        @ancestors = ancestors
        @inputs = inputs
        @revoked = revoked
        @watchdog = watchdog
        @systems = systems
        @error_reporter = error_reporter
      end

      # @param text [String] the claim
      # @yieldparam outcome [String] to be handed in at once: what is still to be done could be disturbed from outside
      # @return [String] the outcome
      def run(text)
        claim = JSON.parse(text, **PARSING)
        context = Logging::Context.of_claim(claim)
        context.within do
          Instrumentation.instrument("perform_step", claim: claim) do |facts|
            outcome = perform(claim, context, facts)
            yield outcome if block_given?
            outcome
          end
        end
      end

      # @param text [String] a claim whose attempt was given up, for which {#run} could not answer
      # @param message [String] why
      # @return [String] the outcome
      def abandoned_outcome(text, message) = failed(JSON.parse(text, **PARSING), RetryableError.new(message))

      private

      # What the attempt came to goes into `facts`, for whoever listens.
      def perform(claim, context, facts)
        begun = false
        @host.run do
          begun = true
          TaskerCore.logging.around(context) { outcome(claim, facts) }
        end
      rescue Exception => e # rubocop:disable Lint/RescueException -- of the host's own hooks
        begun ? failed(claim, e, facts) : not_begun(claim, e, facts)
      end

      def outcome(claim, facts)
        begin
          handler = @handlers.find(claim.fetch("handler"))
        rescue StandardError, ScriptError => e # of the application's files, which are loaded by that
          return not_begun(claim, e, facts)
        end
        return unknown_handler(claim, facts) unless handler

        completed(claim, result(claim, handler), facts)
      rescue Exception => e # rubocop:disable Lint/RescueException -- exit, signals, NoMemoryError: the thread is ours
        failed(claim, e, facts)
      end

      # @return [String] JSON text, written within the time limit too: what a handler answers may be endless
      def result(claim, handler)
        context = context(claim)
        message = "the time limit of #{context.timeout} s has passed"
        @watchdog.watch(context.timeout) do
          Timeout.timeout(context.timeout, TimeoutError, message) { json(claim, handler.call(context)) }
        end
      end

      def context(claim)
        token = claim.fetch("token")
        StepContext.new(claim, ancestors: ->(names, after) { ancestors(claim, names, after) },
                               task_input: -> { read(claim, "the task's input") { @inputs.call(token) } },
                               cancelled: -> { @revoked.call(token) }, systems: @systems)
      end

      def ancestors(claim, names, after)
        what = names&.one? ? "the result of `#{names.first}`" : "the results of the steps before it"
        bytes = nil
        response = read(claim, what) { @ancestors.call(claim.fetch("token"), names, after).tap { |text| bytes = text.bytesize } }
        response.merge("bytes" => bytes)
      end

      # What the database refuses or cannot read, it will not return another time either.
      def read(claim, what)
        JSON.parse(yield, **PARSING)
      rescue InputError, DatabaseError => e
        message = "step #{claim.fetch('step')}: #{what} cannot be read: #{e.message}"
        raise RetryableError.new(message) unless e.is_a?(InputError) || e.facts["damaged"]

        raise PermanentError.new(message, code: "unreadable_payload")
      end

      def json(claim, result)
        case result
        when nil then "{}"
        when Hash then JsonValue.json(result, "result")
        else raise PermanentError.new("#{claim.fetch('handler')} answered #{shown(result)}: a handler answers a Hash or nil",
                                      code: "invalid_result")
        end
      rescue JSON::JSONError => e
        raise PermanentError.new("the result cannot be written as JSON: #{e.message}", code: "invalid_result")
      end

      def shown(result)
        "#{TaskerCore.logging.filtered(result).inspect.truncate(80)} (#{result.class})"
      rescue StandardError => e
        "something that cannot be shown (#{e.class})"
      end

      def completed(claim, result, facts)
        facts.update(outcome: :completed, result: result)
        %({"token":#{claim.fetch('token')},"outcome":"completed","result":#{result}})
      end

      def failed(claim, error, facts = {})
        @error_reporter&.remember(claim, error)
        failure = Failure.new(error)
        retry_facts = { retryable: failure.retryable?, retry_after: failure.retry_after }
        facts.update(outcome: :failed, failure: failure.to_h, last_attempt: claim["attempt"] == claim["max_attempts"],
                     **retry_facts)
        JSON.generate(token: claim.fetch("token"), outcome: "failed", error: facts[:failure], **retry_facts)
      end

      def unknown_handler(claim, facts)
        Instrumentation.instrument("unknown_handler", handler: claim["handler"])
        released(claim, "unknown_handler", facts)
      end

      # Where code is reloaded, it may not load while it is being written, which is no attempt of the step's.
      def not_begun(claim, error, facts)
        return failed(claim, error, facts) unless @host.reloading? && (error.is_a?(StandardError) || error.is_a?(ScriptError))

        Instrumentation.instrument("not_loaded", error: error)
        released(claim, "not_loaded", facts)
      end

      def released(claim, reason, facts)
        facts[:outcome] = :released
        JSON.generate(token: claim.fetch("token"), outcome: "released", reason: reason)
      end
    end
  end
end
