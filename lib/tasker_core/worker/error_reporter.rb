# frozen_string_literal: true

module TaskerCore
  class Worker
    # Reports failures to `Rails.error` (ActiveSupport's error reporter), to which error trackers subscribe.
    # docs/operations.md.
    #
    # A failed attempt is reported once, when the database has decided whether its step is retried: by the process that
    # ran the attempt, or by the one that found it lost. Until then this process keeps the exceptions of its own
    # attempts.
    #
    # @api private
    class ErrorReporter
      SOURCE = "tasker_core"
      # Exceptions that may wait for a decision. Beyond it the oldest is dropped: a revoked attempt never gets a
      # decision.
      MAX_PENDING = 1000
      DECISIONS = { "step.failed" => { handled: false, severity: :error },
                    "step.retry_scheduled" => { handled: true, severity: :warning } }.freeze
      # Severities of other failures, by their names in `ActiveSupport::Notifications`.
      FAILURES = { "listener_failed" => :error, "thread_replaced" => :error, "delivery_failed" => :warning,
                   "delivery_poll_failed" => :warning, "notify_failed" => :warning }.freeze
      FACTS = %i[task_id task_uuid namespace workflow version step attempt max_attempts].freeze
      private_constant :MAX_PENDING, :DECISIONS, :FAILURES, :FACTS

      # Reports failures other than those of attempts.
      # @param reporter [#call] returns the ActiveSupport::ErrorReporter
      def self.attach(reporter: -> { ActiveSupport.error_reporter })
        FAILURES.map do |name, severity|
          ActiveSupport::Notifications.subscribe("#{name}.tasker_core") do |*, payload|
            next unless payload[:error]

            context = { trouble: name, event: payload[:event]&.name, **payload.slice(:subscription, :thread) }.compact
            reporter.call.report(payload[:error], handled: true, severity: severity, context: context, source: SOURCE)
          end
        end
      end

      # @param reporter [#call] returns the ActiveSupport::ErrorReporter
      def initialize(reporter: -> { ActiveSupport.error_reporter })
        @reporter = reporter
        @pending = {}
        @mutex = Mutex.new
      end

      # Subscribes to the decisions about failed attempts; without effect if it is subscribed to these events already.
      # @param events [Events]
      # @return [self]
      def listen(events = TaskerCore.events)
        @mutex.synchronize do
          next if @events.equal?(events)

          DECISIONS.each_key { |name| events.subscribe(name) { |event| report(event) } }
          @events = events
        end
        self
      end

      # Keeps the exception of an attempt until its decision, with the context that `Rails.error.set_context` has set.
      # @param claim [Hash{String => Object}]
      # @param error [Exception]
      def remember(claim, error)
        context = ActiveSupport::ExecutionContext.to_h
        @mutex.synchronize do
          @pending[claim.values_at("task_uuid", "step", "attempt")] = [error, context]
          @pending.shift if @pending.size > MAX_PENDING
        end
      end

      private

      def report(event)
        error, context = take(event) || [AttemptFailedError.of(event[:error]), {}]
        facts = FACTS.to_h { |name| [name, event[name]] }.compact
        @reporter.call.report(error, context: { **context, **facts, correlation_id: event.correlation_id }.compact,
                                     source: SOURCE, **DECISIONS.fetch(event.name))
      end

      def take(event)
        @mutex.synchronize { @pending.delete([event[:task_uuid], event[:step], event[:attempt]]) }
      end
    end
  end
end
