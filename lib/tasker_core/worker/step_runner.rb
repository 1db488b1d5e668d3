# frozen_string_literal: true

module TaskerCore
  class Worker
    # Runs one attempt: takes a claim and returns an outcome, both JSON text. Stop 4 of a step's life
    # (docs/walkthrough.md).
    #
    # Every attempt has an outcome: this is the one place where exceptions of handlers become data.
    #
    # @api private
    class StepRunner
      # @param handlers [HandlerRegistry]
      # @param contexts [ContextBuilder]
      # @param watchdog [Watchdog] enforces time limits
      # @param host [Support::HostApplication] wraps each attempt
      # @param error_reporter [ErrorReporter, nil] keeps the exceptions of failed attempts
      def initialize(handlers:, contexts:, watchdog:, host: Support::HostApplication.new(nil), error_reporter: nil)
        @handlers = handlers
        @contexts = contexts
        @watchdog = watchdog
        @host = host
        @error_reporter = error_reporter
      end

      # @param text [String] the claim
      # @yieldparam outcome [String] to deliver at once, before anything else in this thread can be interrupted
      # @return [String] the outcome
      def run(text)
        claim = JsonValue.parse(text)
        context = Correlation::Context.of_claim(claim)
        context.within do
          Instrumentation.instrument("perform_step", claim: claim) do |facts|
            outcome = perform(claim, context, facts)
            yield outcome if block_given?
            outcome
          end
        end
      end

      # @param text [String] a claim whose attempt ended without an outcome, because {#run} was interrupted
      # @param message [String] why
      # @return [String] the outcome
      def abandoned_outcome(text, message) = failed(JsonValue.parse(text), RetryableError.new(message))

      private

      # @param facts [Hash] payload of `perform_step`: gets the outcome, for subscribers
      def perform(claim, context, facts)
        begun = false
        @host.run do
          begun = true
          TaskerCore.logging.around(context) { attempt(claim, facts) }
        end
      rescue Exception => e # rubocop:disable Lint/RescueException -- raised by the host's own hooks
        begun ? failed(claim, e, facts) : not_begun(claim, e, facts)
      end

      def attempt(claim, facts)
        begin
          handler = @handlers.find(claim.fetch("handler"))
        rescue StandardError, ScriptError => e # raised while the application's files are loaded
          return not_begun(claim, e, facts)
        end
        return unknown_handler(claim, facts) unless handler

        completed(claim, call(handler, claim), facts)
      rescue Exception => e # rubocop:disable Lint/RescueException -- exit, signals, NoMemoryError: the thread is ours
        failed(claim, e, facts)
      end

      # @return [String] the result as JSON text, generated within the time limit too: it may be endless
      def call(handler, claim)
        context = @contexts.build(claim)
        @watchdog.limit(context.timeout) { Outcome.result(claim, handler.call(context)) }
      end

      def completed(claim, result, facts)
        facts.update(outcome: :completed, result: result)
        Outcome.completed(claim, result)
      end

      def failed(claim, error, facts = {})
        @error_reporter&.remember(claim, error)
        failure = Support::Failure.new(error, caller_path: HandlerRegistry::PATH)
        facts.update(outcome: :failed, failure: failure.to_h, last_attempt: claim["attempt"] == claim["max_attempts"],
                     retryable: failure.retryable?, retry_after: failure.retry_after)
        Outcome.failed(claim, error: facts[:failure], retryable: facts[:retryable], retry_after: facts[:retry_after])
      end

      def unknown_handler(claim, facts)
        Instrumentation.instrument("unknown_handler", handler: claim["handler"])
        released(claim, "unknown_handler", facts)
      end

      # Spends no attempt where code is reloaded: a file that is being edited may not load.
      def not_begun(claim, error, facts)
        reloadable = @host.reloading? && (error.is_a?(StandardError) || error.is_a?(ScriptError))
        return failed(claim, error, facts) unless reloadable

        Instrumentation.instrument("not_loaded", error: error)
        released(claim, "not_loaded", facts)
      end

      def released(claim, reason, facts)
        facts[:outcome] = :released
        Outcome.released(claim, reason)
      end
    end
  end
end
