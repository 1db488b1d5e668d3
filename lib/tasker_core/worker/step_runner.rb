# frozen_string_literal: true

module TaskerCore
  class Worker
    # Runs one attempt: takes a claim and returns an outcome, in JSON. Stage 4 of a step's life (docs/walkthrough.md).
    # Every attempt produces an outcome: this is the only place where handler exceptions become data.
    # @api private
    class StepRunner
      # @param handlers [HandlerRegistry]
      # @param contexts [ContextBuilder]
      # @param watchdog [Watchdog] enforces time limits
      # @param host [Support::HostApplication] wraps each attempt
      # @param error_reporter [ErrorReporter, nil] remembers each exception until the step's next state is decided
      def initialize(handlers:, contexts:, watchdog:, host: Support::HostApplication.new(nil), error_reporter: nil)
        @handlers = handlers
        @contexts = contexts
        @watchdog = watchdog
        @host = host
        @error_reporter = error_reporter
      end

      # @param claim_json [String]
      # @yieldparam outcome [String] to be delivered immediately, before this thread can be interrupted
      # @return [String] the outcome
      def run(claim_json)
        claim = Support::JsonValue.parse(claim_json)
        context = Correlation::Context.from_claim(claim)
        context.within do
          Instrumentation.instrument("perform_step", claim: claim) do |facts|
            Tracing.attempt(claim, facts) do
              outcome = run_in_host(claim, context, facts)
              yield outcome if block_given?
              outcome
            end
          end
        end
      end

      # @param message [String] why {#run} was interrupted and has delivered no outcome
      def abandoned_outcome(claim_json, message)
        failed(Support::JsonValue.parse(claim_json), RetryableError.new(message))
      end

      private

      # @param facts [Hash] payload of the `perform_step` event; filled with the outcome for subscribers
      def run_in_host(claim, context, facts)
        begun = false
        @host.run do
          begun = true
          TaskerCore.logging.around(context) { run_handler(claim, facts) }
        end
      rescue Exception => e # rubocop:disable Lint/RescueException -- from the host's hooks before and after the handler
        begun ? failed(claim, e, facts) : load_failed(claim, e, facts)
      end

      def run_handler(claim, facts)
        begin
          handler = @handlers.find(claim.fetch("handler"))
        rescue StandardError, ScriptError => e # raised while the application's files are loaded
          return load_failed(claim, e, facts)
        end
        return unknown_handler(claim, facts) unless handler

        completed(claim, call_handler(handler, claim), facts)
      rescue Exception => e # rubocop:disable Lint/RescueException -- the worker owns this thread, so nothing may escape
        ended_by_queue?(e) ? interrupted(claim, facts) : failed(claim, e, facts)
      end

      # The result is serialised within the time limit too, because it may be infinite (e.g. an enumerator).
      def call_handler(handler, claim)
        context = @contexts.build(claim)
        @watchdog.limit(context.timeout) { Outcome.result(claim, handler.call(context)) }
      end

      def completed(claim, result, facts)
        facts.update(outcome: :completed, result: result)
        Outcome.completed(claim, result)
      end

      def failed(claim, error, facts = {})
        @error_reporter&.remember(claim, Support::DecidedFailure.original(error))
        failure = Support::Failure.new(error, caller_path: HandlerRegistry::PATH)
        facts.update(outcome: :failed, failure: failure.to_h, last_attempt: claim["attempt"] == claim["max_attempts"],
                     retryable: failure.retryable?, retry_after: failure.retry_after)
        Outcome.failed(claim, error: facts[:failure], retryable: facts[:retryable], retry_after: facts[:retry_after])
      end

      # The application's queue raises an interrupt of its own class in its jobs when its process ends: Sidekiq::Shutdown.
      def ended_by_queue?(error) = error.is_a?(Interrupt) && !error.instance_of?(Interrupt)

      def interrupted(claim, facts)
        facts[:explanation] = "the process is ending"
        released(claim, "interrupted", facts)
      end

      def unknown_handler(claim, facts)
        Instrumentation.instrument("unknown_handler", handler: claim["handler"])
        facts[:explanation] = "no #{claim['handler']} is defined"
        released(claim, "unknown_handler", facts)
      end

      # When code reloading is on, a load error does not consume an attempt: the file may be mid-edit.
      def load_failed(claim, error, facts)
        may_pass_after_edit = @host.reloading? && (error.is_a?(StandardError) || error.is_a?(ScriptError))
        return failed(claim, error, facts) unless may_pass_after_edit

        Instrumentation.instrument("not_loaded", error: error)
        failure = Support::Failure.new(error).to_h
        facts[:explanation] = "the code cannot be loaded: #{failure[:class]}: #{Support::Failure.headline(failure[:message])}"
        released(claim, "not_loaded", facts)
      end

      def released(claim, reason, facts)
        facts[:outcome] = :released
        Outcome.released(claim, reason)
      end
    end
  end
end
