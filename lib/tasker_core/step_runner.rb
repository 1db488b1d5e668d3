# frozen_string_literal: true

require "timeout"

module TaskerCore
  # Runs one attempt: from a claim (JSON text) to an outcome (JSON text). Stop 4 of a step's life.
  #
  # Whatever a handler does, there is an outcome. What is raised becomes data here and nowhere else.
  class StepRunner
    BACKTRACE_LINES = 20
    # How deep a payload may be is checked where it comes in (limits.payload_depth); in a claim it lies deeper.
    PARSING = { freeze: true, max_nesting: false }.freeze
    private_constant :PARSING

    # @param handlers [Handlers]
    # @param host [HostApplication] around each attempt
    # @param ancestors [#call] takes a token, answers JSON text: results of all steps before that one
    # @param revoked [#call] takes a token, answers whether its lease was taken away
    def initialize(handlers:, ancestors:, revoked:, host: HostApplication.new(nil))
      @handlers = handlers
      @host = host
      @ancestors = ancestors
      @revoked = revoked
    end

    # @param text [String] the claim
    # @return [String] the outcome
    def run(text)
      claim = JSON.parse(text, **PARSING)
      @host.run { outcome(claim) }
    rescue StandardError => e # of the host's own hooks
      failed(claim, e)
    end

    private

    def outcome(claim)
      handler = @handlers.find(claim.fetch("handler"))
      return unknown_handler(claim) unless handler

      completed(claim, attempt(handler, context(claim)))
    rescue PermanentError => e
      failed(claim, e, retryable: false, code: e.code)
    rescue RetryableError => e
      failed(claim, e, retry_after: e.retry_after&.to_f)
    rescue StandardError, ScriptError, SystemExit, NoMemoryError, SystemStackError => e
      failed(claim, e)
    end

    def context(claim)
      token = claim.fetch("token")
      StepContext.new(claim, ancestors: -> { JSON.parse(@ancestors.call(token), **PARSING) },
                             cancelled: -> { @revoked.call(token) })
    end

    def attempt(handler, context)
      message = "the time limit of #{context.timeout} s has passed"
      Timeout.timeout(context.timeout, TimeoutError, message) { handler.call(context) }
    end

    def completed(claim, result)
      result = {} if result.nil?
      raise PermanentError.new(not_a_hash(claim, result), code: "invalid_result") unless result.is_a?(Hash)

      %({"token":#{claim.fetch('token')},"outcome":"completed","result":#{Plain.json(result)}})
    rescue JSON::GeneratorError, JSON::NestingError, EncodingError => e
      raise PermanentError.new("the result cannot be written as JSON: #{e.message}", code: "invalid_result")
    end

    def not_a_hash(claim, result)
      "#{claim.fetch('handler')} answered #{result.inspect.truncate(80)} (#{result.class}): a handler answers a Hash or nil"
    end

    def failed(claim, error, retryable: true, code: nil, retry_after: nil)
      facts = { class: error.class.name, message: storable(error.message), code: code&.to_s,
                backtrace: (error.backtrace || []).first(BACKTRACE_LINES).map { |line| storable(line) } }
      JSON.generate(token: claim.fetch("token"), outcome: "failed", error: facts, retryable: retryable,
                    retry_after: retry_after)
    end

    # A message may hold anything; PostgreSQL's text holds UTF-8 without null characters.
    def storable(text) = text.to_s.dup.force_encoding(Encoding::UTF_8).scrub.delete("\0")

    def unknown_handler(claim)
      TaskerCore.logger.warn("tasker_core: step #{claim['step']} of #{claim['workflow']}: handler #{claim['handler']} is not " \
                             "defined in this process; the step is given back")
      JSON.generate(token: claim.fetch("token"), outcome: "released", reason: "unknown_handler")
    end
  end
end
