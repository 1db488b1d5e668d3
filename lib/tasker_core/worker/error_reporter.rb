# frozen_string_literal: true

module TaskerCore
  class Worker
    # Passes failures on to `Rails.error` (ActiveSupport's error reporter), which error trackers listen to. docs/operations.md.
    #
    # A failed attempt is reported when the database has decided what becomes of its step, once, by the process that hears of the
    # decision: the one that ran it, or the one that found it lost. The exception of an attempt of this process is kept until
    # then.
    #
    # @api private
    class ErrorReporter
      SOURCE = "tasker_core"
      # Exceptions that wait for a decision; beyond it the oldest is forgotten, as none comes for an attempt that was taken away.
      MAX_PENDING = 1000
      DECISIONS = { "step.failed" => { handled: false, severity: :error },
                    "step.retry_scheduled" => { handled: true, severity: :warning } }.freeze
      # What else goes wrong in a process, as `ActiveSupport::Notifications` tell it.
      FAILURES = { "listener_failed" => :error, "thread_replaced" => :error, "delivery_failed" => :warning,
                   "delivery_poll_failed" => :warning, "notify_failed" => :warning }.freeze
      FACTS = %i[task_id task_uuid namespace workflow version step attempt max_attempts].freeze
      private_constant :MAX_PENDING, :DECISIONS, :FAILURES, :FACTS

      # Reports what goes wrong beside attempts.
      def self.attach(reporter: -> { ActiveSupport.error_reporter })
        FAILURES.map do |name, severity|
          ActiveSupport::Notifications.subscribe("#{name}.tasker_core") do |*, payload|
            next unless payload[:error]

            context = { trouble: name, event: payload[:event]&.name, **payload.slice(:subscription, :thread) }.compact
            reporter.call.report(payload[:error], handled: true, severity: severity, context: context, source: SOURCE)
          end
        end
      end

      # @param reporter [#call] answers the ActiveSupport::ErrorReporter
      def initialize(reporter: -> { ActiveSupport.error_reporter })
        @reporter = reporter
        @pending = {}
        @mutex = Mutex.new
      end

      # Begins to listen to what becomes of attempts; to the same events once only.
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

      # Keeps the exception of an attempt until the decision comes, with what `Rails.error.set_context` has said of it.
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
