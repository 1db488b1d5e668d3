# frozen_string_literal: true

module TaskerCore
  # Spans of OpenTelemetry, if the application has loaded it: a producer span for each creation of tasks, whose context
  # is stored with the tasks, and a consumer span for each attempt, its child. docs/tracing.md.
  #
  # An error of OpenTelemetry never affects the traced code: it goes to `OpenTelemetry.handle_error`.
  #
  # @api private
  module Tracing
    SYSTEM = "tasker_core"
    FLUSH_TIMEOUT = 2
    # As much of an error's message as is stored.
    MESSAGE_LENGTH = 10_000
    private_constant :FLUSH_TIMEOUT, :MESSAGE_LENGTH

    module_function

    # @return [Boolean] whether the application has loaded OpenTelemetry
    def available? = defined?(::OpenTelemetry::Trace) ? true : false

    # Traces the creation of tasks.
    # @param workflow [Native::CompiledWorkflow]
    # @param count [Integer] of tasks
    # @yieldparam carrier [Hash{String => String}, nil] the W3C trace context to store with the tasks
    # @yieldreturn [Array<Hash>] the created tasks, as create_tasks returns them
    def create(workflow, count)
      return yield(nil) unless available?

      span = safely { start_creation(workflow, count) } or return yield(nil)
      within(span) do
        created = yield(carrier(span))
        safely { span.add_attributes(Attributes.created(created)) }
        created
      end
    end

    # Traces an attempt.
    # @param claim [Hash{String => Object}]
    # @param facts [Hash] payload of `perform_step`, with the outcome after the block
    def attempt(claim, facts, &block)
      return yield unless available?

      span = safely { start_attempt(claim) } or return yield
      within(span, -> { safely { end_attempt(span, facts) } }, &block)
    end

    # Sends the spans that wait for it, before a worker process ends.
    def flush
      return unless available?

      provider = ::OpenTelemetry.tracer_provider
      safely { provider.force_flush(timeout: FLUSH_TIMEOUT) } if provider.respond_to?(:force_flush)
    end

    # @return [OpenTelemetry::Trace::Tracer]
    def tracer = ::OpenTelemetry.tracer_provider.tracer(SYSTEM, VERSION)

    def start_creation(workflow, count)
      tracer.start_span("create #{workflow.name}", kind: :producer, attributes: Attributes.creation(workflow, count))
    end

    def start_attempt(claim)
      parent = parent_of(claim)
      history = History.new(claim, ::OpenTelemetry::Trace.current_span(parent).context)
      history.report_lost(parent)
      SpanId.use(SpanId.of(claim.fetch("task_uuid"), claim.fetch("token"))) do
        name = "process #{claim.fetch('workflow')}.#{claim.fetch('step')}"
        tracer.start_span(name, with_parent: parent, kind: :consumer, attributes: Attributes.attempt(claim),
                                links: history.links)
      end
    end

    # @return [OpenTelemetry::Context] with the span that created the task, or none
    def parent_of(claim)
      root = ::OpenTelemetry::Context::ROOT
      carrier = claim["trace_context"]
      carrier ? propagator.extract(carrier, context: root) : root
    end

    def end_attempt(span, facts)
      span.set_attribute("tasker.attempt.outcome", (facts[:outcome] || "abandoned").to_s)
      span.set_attribute("tasker.attempt.explanation", facts[:explanation]) if facts[:explanation]
      failure = facts[:failure] or return
      add_exception(span, failure[:class], failure[:message], failure[:backtrace])
      span.add_attributes("error.type" => failure[:class], "tasker.attempt.retryable" => facts[:retryable] == true)
    end

    # As `record_exception`, with text that every exporter accepts: one invalid byte would lose the whole batch.
    def add_exception(span, name, message, backtrace)
      message = Support::Utf8.text(message.to_s[0, MESSAGE_LENGTH]).scrub
      stack = Support::Utf8.text(Array(backtrace).join("\n")).scrub
      span.add_event("exception", attributes: { "exception.type" => name, "exception.message" => message,
                                                "exception.stacktrace" => stack })
      span.status = ::OpenTelemetry::Trace::Status.error(Support::Failure.headline(message))
    end

    def carrier(span)
      return unless span.context.valid?

      safely do
        context = ::OpenTelemetry::Trace.context_with_span(span)
        {}.tap { |carrier| propagator.inject(carrier, context: context) }.presence
      end
    end

    def propagator = ::OpenTelemetry::Trace::Propagation::TraceContext.text_map_propagator

    # Makes the span current for the block and ends it after `finish`; records an exception of the block.
    def within(span, finish = nil)
      token = ::OpenTelemetry::Context.attach(::OpenTelemetry::Trace.context_with_span(span))
      yield
    rescue Exception => e # rubocop:disable Lint/RescueException -- raised again
      safely { add_exception(span, e.class.name.to_s, e.message, e.backtrace) }
      raise
    ensure
      finish&.call
      safely do
        ::OpenTelemetry::Context.detach(token) if token
        span.finish
      end
    end

    def safely
      yield
    rescue StandardError => e
      ::OpenTelemetry.handle_error(exception: e, message: "tasker_core cannot trace")
      nil
    end
  end
end
