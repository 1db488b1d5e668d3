# frozen_string_literal: true

module TaskerCore
  class Logging
    # The wording of everything that Ruby logs: one method for each event `NAME.tasker_core`.
    #
    # Another subscriber of the same events may do something else with them; docs/logging.md lists them.
    #
    # @api private
    class Subscriber
      LONGEST_TEXT = 200
      LONGEST_MESSAGE = 2_000
      # Of inputs and results; of a longer one only the size is told.
      MOST_BYTES = 10_000
      private_constant :LONGEST_TEXT, :LONGEST_MESSAGE, :MOST_BYTES

      # Subscribes to every event that there is a method for.
      # @param logging [#call] answers the {Logging}
      def self.attach(logging: -> { TaskerCore.logging })
        subscriber = new(logging)
        public_instance_methods(false).map do |event|
          ActiveSupport::Notifications.monotonic_subscribe("#{event}.tasker_core") do |_, started, finished, _, payload|
            subscriber.public_send(event, payload, ((finished - started) * 1000).round(3))
          rescue StandardError => e
            Support::SafeOutput.line("tasker_core: #{event} could not be logged: #{e.class}: #{e.message}")
          end
        end
      end

      # @param logging [#call]
      def initialize(logging)
        @logging = logging
      end

      # Tasks were created; they start if and when the transaction commits.
      def create_tasks(payload, duration)
        ids = payload[:task_ids]
        return unless ids # it failed, and the caller knows

        fields = ids.one? ? { task_id: ids.first } : { tasks: ids.size, first_task_id: ids.first }
        fields[:parent_task_id] = Correlation::Context.current&.task_id
        fields = fields.compact.merge(workflow: payload[:workflow], existing: payload[:existing], duration_ms: duration)
        fields[:input] = payload[:inputs].map { |input| filtered(JSON.generate(input, max_nesting: 0)) } if writes?(Logger::DEBUG)
        write(Logger::INFO, ids.one? ? "task created" : "tasks created", fields, context: context_of(payload))
      end

      # An attempt has ended, with or without an outcome.
      def perform_step(payload, duration)
        case payload[:outcome]
        when :completed then completed(payload, duration)
        when :failed then failed(payload.fetch(:failure), payload, duration)
        when nil then warn("step was given up: the thread of its handler was killed", duration_ms: duration)
        end
      end

      # This process has no handler of the name that the workflow gives.
      def unknown_handler(payload, _)
        warn("step is given back: its handler is not defined in this process", handler: payload[:handler])
      end

      # The application's code, which is reloaded here, cannot be loaded as it is.
      def not_loaded(payload, _)
        error("step is given back: the application's code cannot be loaded", error_fields(payload[:error]))
      end

      # A workflow that is declared here names a handler that is not; another process may have it.
      def undefined_handler(payload, _)
        warn("a step's handler is not defined in this process", payload.slice(:workflow, :step, :handler, :nearest).compact)
      end

      # The lease was gone: somebody else has the step, or nobody needs it any more.
      def outcome_rejected(payload, _)
        warn("an outcome was not taken", error_fields(payload[:error]))
      end

      # A handler went on after its time limit.
      def thread_killed(payload, _)
        error("a thread is killed: its handler has outlasted its time limit", { thread: payload[:thread].name },
              context: payload[:context])
      end

      # Something has ended a thread of ours; one that dies again at once is replaced after a pause.
      def thread_replaced(payload, _)
        fields = payload.slice(:thread, :deaths, :pause)
        fields.update(error_fields(payload[:error])) if payload[:error]
        warn("a thread has died and is replaced", fields)
      end

      # Workers could not be woken.
      def notify_failed(payload, _)
        warn("no notice sent, workers find the steps by their poll", error_fields(payload[:error]))
      end

      # A listener of an event raised; the others are told all the same.
      def listener_failed(payload, _)
        error("a listener raised", { event: payload[:event].name, **error_fields(payload[:error]) })
      end

      # A listener has methods that are named as for an event and will never be called.
      def listener_methods_ignored(payload, _)
        warn("a listener has methods that no event calls", listener: payload[:listener], methods: payload[:methods].join(", "))
      end

      # A durable subscriber raised; it is told of the same event again.
      def delivery_failed(payload, _)
        event = payload[:event]
        fields = { event: event.name, event_id: event.id, correlation_id: event.correlation_id }.compact
        error("an event was not delivered and is tried again",
              payload.slice(:subscription, :failures, :retry_after).merge(fields, error_fields(payload[:error])))
      end

      # Another process has taken over what this one was delivering, or the connection broke meanwhile.
      def delivery_lost(payload, _)
        warn("a delivery was undone, and is made again", subscription: payload[:subscription], **error_fields(payload[:error]))
      end

      # Events of a durable subscription could not be fetched, or not be delivered together.
      def delivery_poll_failed(payload, _)
        fields = payload.slice(:subscription, :events)
        together = "events not delivered together: fewer are tried"
        warn(fields.key?(:events) ? together : "no events delivered: it is tried again",
             fields.merge(error_fields(payload[:error])))
      end

      # An id from outside was no UUID.
      def correlation_id_adopted(payload, _)
        text = payload[:text].dup.force_encoding(Encoding::UTF_8).scrub.truncate(LONGEST_TEXT)
        info("a correlation id that is no UUID was given one", correlation_id: payload[:id], given: text)
      end

      # The API, or a page, answers that it cannot; who asked is not told why.
      def request_failed(payload, _)
        error("a request to the engine failed", error_fields(payload[:error]))
      end

      # More lines came from Rust than could wait.
      def log_lines_dropped(payload, _)
        warn("log lines were dropped: more came than can wait to be written", dropped: payload[:count],
                                                                              capacity: payload[:capacity])
      end

      private

      # The line is about the tasks, and not about the step whose handler created them. Tasks of several ids have none in common.
      def context_of(payload)
        ids = Array(payload[:correlation_ids]).uniq
        Correlation::Context.new(correlation_id: ids.one? ? ids.first : Correlation.current)
      end

      def completed(payload, duration)
        fields = { duration_ms: duration }
        fields[:result] = filtered(payload[:result]) if writes?(Logger::DEBUG)
        info("step completed", fields)
      end

      def failed(failure, payload, duration)
        message = failure[:message].truncate(LONGEST_MESSAGE)
        fields = { duration_ms: duration, "error.class": failure[:class], "error.message": message }
        fields[:code] = failure[:code] if failure[:code]
        return error("step failed for good", fields) unless payload[:retryable] && !payload[:last_attempt]

        fields[:retry_after] = payload[:retry_after] if payload[:retry_after]
        warn("step failed and is tried again", fields)
      end

      def error_fields(error) = { "error.class": error.class.name, "error.message": error.message.truncate(LONGEST_MESSAGE) }

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
