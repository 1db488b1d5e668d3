# frozen_string_literal: true

module TaskerCore
  class Logging
    # Writes Ruby's log lines: one method for each event `NAME.tasker_core` ({Instrumentation}). docs/logging.md lists
    # the events.
    #
    # @api private
    class Subscriber
      LONGEST_TEXT = 200
      LONGEST_MESSAGE = 2_000
      # Bytes of an input or a result; for a longer one, only the size is logged.
      MOST_BYTES = 10_000
      private_constant :LONGEST_TEXT, :LONGEST_MESSAGE, :MOST_BYTES

      # Subscribes to every event for which it has a method.
      # @param logging [#call] returns the {Logging}
      def self.attach(logging: -> { TaskerCore.logging })
        subscriber = new(logging)
        public_instance_methods(false).map do |event|
          ActiveSupport::Notifications.monotonic_subscribe("#{event}.tasker_core") do |_, started, finished, _, payload|
            subscriber.public_send(event, payload, ((finished - started) * 1000).round(3))
          rescue StandardError => e # by a logger or a filter of the application: the instrumented code continues
            Support::SafeOutput.line("tasker_core: #{event} could not be logged: #{e.class}: #{e.message}")
          end
        end
      end

      # @param logging [#call]
      def initialize(logging)
        @logging = logging
      end

      # Tasks were created; they start when the transaction commits.
      def create_tasks(payload, duration)
        ids = payload[:task_ids]
        return unless ids # the creation failed, and the caller got the error

        fields = ids.one? ? { task_id: ids.first } : { tasks: ids.size, first_task_id: ids.first }
        fields[:parent_task_id] = Correlation::Context.current&.task_id
        fields = fields.compact.merge(workflow: payload[:workflow], existing: payload[:existing], duration_ms: duration)
        fields[:input] = filtered_inputs(payload[:inputs]) if writes?(Logger::DEBUG)
        write(Logger::INFO, ids.one? ? "task created" : "tasks created", fields, context: context_of(payload))
      end

      # An attempt has ended, with or without an outcome.
      def perform_step(payload, duration)
        case payload[:outcome]
        when :completed then completed(payload, duration)
        when :failed then failed(payload.fetch(:failure), payload, duration)
        when nil then warn("step abandoned: the thread of its handler was killed", duration_ms: duration)
        end
      end

      # The step's handler is not defined in this process.
      def unknown_handler(payload, _)
        warn("step released: its handler is not defined in this process", handler: payload[:handler])
      end

      # The application's code cannot be loaded, in a process that reloads it.
      def not_loaded(payload, _)
        error("step released: the application's code cannot be loaded", error_fields(payload[:error]))
      end

      # A workflow that is declared in this process names a handler that is not; another process may have it.
      def undefined_handler(payload, _)
        warn("a step's handler is not defined in this process",
             payload.slice(:workflow, :step, :handler, :nearest).compact)
      end

      # A job was performed whose step is not claimed for it: the queue has performed it before, or too late.
      def job_ignored(payload, _)
        warn("a job was ignored: its step was started before, or is dispatched again", payload[:claim].symbolize_keys)
      end

      # A job could not take its step over; the step is dispatched again.
      def job_given_up(payload, _)
        error("a job was given up: its step is dispatched again after dispatch.start_timeout",
              payload[:claim].symbolize_keys.merge(error_fields(payload[:error])))
      end

      # The lease had expired: another attempt has the step, or the step has ended otherwise.
      def outcome_rejected(payload, _)
        warn("an outcome was rejected", error_fields(payload[:error]))
      end

      # A handler ignored its time limit.
      def thread_killed(payload, _)
        error("a thread was killed: its handler has exceeded its time limit", { thread: payload[:thread].name },
              context: payload[:context])
      end

      # A thread of the gem was killed, or died of an exception.
      def thread_replaced(payload, _)
        fields = payload.slice(:thread, :deaths, :pause)
        fields.update(error_fields(payload[:error])) if payload[:error]
        warn("a thread has died and is replaced", fields)
      end

      # Idle workers could not be notified.
      def notify_failed(payload, _)
        warn("workers were not notified: they find the steps by polling", error_fields(payload[:error]))
      end

      # A listener of an event raised; the other listeners are still called.
      def listener_failed(payload, _)
        error("a listener raised an error", { event: payload[:event].name, **error_fields(payload[:error]) })
      end

      # A listener has methods that look like those for events, but match none.
      def listener_methods_ignored(payload, _)
        warn("a listener has methods that match no event",
             listener: payload[:listener], methods: payload[:methods].join(", "))
      end

      # A durable subscriber raised; it gets the event again.
      def delivery_failed(payload, _)
        event = payload[:event]
        fields = { event: event.name, event_id: event.id, correlation_id: event.correlation_id }.compact
        error("an event was not delivered and is retried",
              payload.slice(:subscription, :failures, :retry_after).merge(fields, error_fields(payload[:error])))
      end

      # Another process has taken over the delivery, or the connection was lost.
      def delivery_lost(payload, _)
        warn("a delivery was rolled back and is repeated",
             subscription: payload[:subscription], **error_fields(payload[:error]))
      end

      # Events of a durable subscription could not be fetched, or not delivered in one transaction.
      def delivery_poll_failed(payload, _)
        fields = payload.slice(:subscription, :events)
        together = "events not delivered together: fewer are tried"
        warn(fields.key?(:events) ? together : "no events delivered: the fetch is retried",
             fields.merge(error_fields(payload[:error])))
      end

      # A correlation id from outside was not a UUID.
      def correlation_id_adopted(payload, _)
        text = payload[:text].dup.force_encoding(Encoding::UTF_8).scrub.truncate(LONGEST_TEXT)
        info("a correlation id was converted to a UUID", correlation_id: payload[:id], given: text)
      end

      # A request to the API or the dashboard failed with an error whose details the client does not get.
      def request_failed(payload, _)
        error("a request to the engine failed", error_fields(payload[:error]))
      end

      # The buffer of lines was full.
      def log_lines_dropped(payload, _)
        warn("log lines were dropped: the buffer was full", dropped: payload[:count],
                                                            capacity: payload[:capacity])
      end

      private

      # Not of the step whose handler created the tasks: only their correlation id, or the current one if they have
      # several.
      def context_of(payload)
        ids = Array(payload[:correlation_ids]).uniq
        Correlation::Context.new(correlation_id: ids.one? ? ids.first : Correlation.current)
      end

      def filtered_inputs(inputs) = inputs.map { |input| filtered(JSON.generate(input, max_nesting: 0)) }

      def completed(payload, duration)
        fields = { duration_ms: duration }
        fields[:result] = filtered(payload[:result]) if writes?(Logger::DEBUG)
        info("step completed", fields)
      end

      def failed(failure, payload, duration)
        message = failure[:message].truncate(LONGEST_MESSAGE)
        fields = { duration_ms: duration, "error.class": failure[:class], "error.message": message }
        fields[:code] = failure[:code] if failure[:code]
        return error("step failed permanently", fields) unless payload[:retryable] && !payload[:last_attempt]

        fields[:retry_after] = payload[:retry_after] if payload[:retry_after]
        warn("step failed and is retried", fields)
      end

      def error_fields(error)
        { "error.class": error.class.name, "error.message": error.message.truncate(LONGEST_MESSAGE) }
      end

      # @param text [String] JSON of an input or a result
      def filtered(text)
        return "#{text.bytesize} bytes" if text.bytesize > MOST_BYTES

        @logging.call.filtered(JSON.parse(text, max_nesting: false))
      end

      def writes?(severity) = @logging.call.writes?(severity)

      def write(...) = @logging.call.write(...)

      def info(message, fields) = write(Logger::INFO, message, fields)

      def warn(message, fields) = write(Logger::WARN, message, fields)

      def error(message, fields, context: Correlation::Context.current)
        write(Logger::ERROR, message, fields, context: context)
      end
    end
  end
end
