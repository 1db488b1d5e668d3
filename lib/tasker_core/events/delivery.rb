# frozen_string_literal: true

module TaskerCore
  class Events
    # Gives the events of one durable subscription to its subscriber, one after the other. What the subscriber writes in
    # the database commits with the note that its event is delivered, or not at all (`db/functions/outbox/fetch_events.sql`).
    #
    # @api private
    class Delivery
      include Support::MonotonicClock

      FIRST_PAUSE = 0.005
      AFTER_ERROR = 1.0
      private_constant :FIRST_PAUSE, :AFTER_ERROR

      # @return [String] of the subscription
      attr_reader :name

      def initialize(name, configuration:, orchestrator:, host: Worker::HostApplication.current)
        @name = name
        @batch_size = configuration[:subscriptions, :batch_size]
        @fetch_size = @batch_size
        @poll_interval = configuration[:subscriptions, :poll_interval]
        @commit_interval = configuration[:subscriptions, :commit_interval]
        @retry = configuration[:retry]
        @orchestrator = orchestrator
        @host = host
        @pause = FIRST_PAUSE
        @progress = 0
      end

      # Delivers until it is told to stop.
      def run
        poll until @stopping
      end

      # Makes {run} return after the event at hand.
      def stop = @stopping = true

      # @return [Boolean] whether the subscriber is being told something
      def busy? = @busy || false

      private

      def poll
        batch = fetch_batch
        return unless batch
        return register unless batch.fetch("known", true)
        return deliver(batch) if batch["events"].any?

        batch["pending"] ? pause : wait_for_events(batch["wait_ms"])
      rescue StaleAttemptError => e
        Instrumentation.instrument("delivery_lost", subscription: @name, error: e)
        sleep AFTER_ERROR
      rescue Error, ActiveRecord::ActiveRecordError => e
        miss(e)
      end

      def miss(error)
        Instrumentation.instrument("delivery_poll_failed", subscription: @name, error: error)
        sleep AFTER_ERROR
      end

      # As when the worker started: the subscription was dropped since, or its table truncated.
      def register
        call(:register_subscriptions,
             JSON.generate([{ name: @name, events: Subscriber.durable_subscribers.fetch(@name).durable_events }]))
      end

      # @return [Hash, nil] nil when the events could not be fetched together
      def fetch_batch
        @process = @orchestrator.process_id
        call(:fetch_events, @process, @name, @fetch_size, true)
      rescue Error, ActiveRecord::ActiveRecordError => e
        raise unless Postgres::Functions.of_rows?(e)

        reduce(@fetch_size, e)
      end

      # Takes fewer events at once from now on, so that one that cannot be delivered holds up none before it. Alone it fails.
      # @param count [Integer] how many could not be delivered together
      # @param first [Integer, nil] the number of the first one, if it was fetched
      def reduce(count, error, first = nil)
        return fail_first(error, first) if count == 1

        @fetch_size = [@fetch_size, count / 2].min
        Instrumentation.instrument("delivery_poll_failed", subscription: @name, events: count, error: error)
        nil
      end

      def grow
        @fetch_size = [@fetch_size + (@fetch_size / 4.0).ceil, @batch_size].min
      end

      # Fails the next event as if its subscriber had raised: it is tried again later, and operators see it and can skip it.
      # After an error that followed the commit the next event is another one, which has not failed.
      def fail_first(error, first)
        row = call(:fetch_events, @process, @name, 1, false)["events"].first
        return miss(error) unless row && [nil, row["id"]].include?(first)

        event = Event.new(row.merge("id" => row["uuid"], "payload" => {}))
        in_transaction { acknowledge(transaction_id, 0, event, error) }
        nil
      end

      # Somebody's transaction may have an event that comes first.
      def pause
        sleep @pause
        @pause = [@pause * 2, @poll_interval].min
      end

      # The longer there was nothing for it among what steps come to, the seldomer it looks.
      def wait_for_events(wait_ms)
        pause
        progress = @orchestrator.wait_for_progress(@progress, [@poll_interval, (wait_ms || Float::INFINITY) / 1000.0].min)
        @pause = FIRST_PAUSE if progress == @progress
        @progress = progress
      end

      def deliver(batch)
        @busy = true
        @pause = FIRST_PAUSE
        @host.run { commit(Subscriber.durable_subscribers.fetch(@name), *batch.values_at("events", "to")) }
      ensure
        @busy = false
      end

      # What a subscriber wrote may be refused only here: a constraint may be deferred, a callback may raise.
      def commit(subscriber, rows, to)
        in_transaction { acknowledge(transaction_id, *deliver_rows(subscriber, rows, to)) }
        grow
      rescue Error, ActiveRecord::StatementInvalid, ActiveRecord::ConnectionNotEstablished => e
        raise unless Postgres::Functions.of_rows?(e)

        reduce(rows.size, e, rows.first["id"])
      rescue StandardError => e
        reduce(rows.size, e, rows.first["id"])
      end

      def in_transaction(&block) = ApplicationRecord.on_connection { ApplicationRecord.transaction(&block) }

      def transaction_id
        ApplicationRecord.on_connection { |connection| connection.select_value("select pg_current_xact_id()::text::bigint") }
      end

      # @return [Array(Integer, Event, Exception)] up to which number the events are delivered, and which one failed, and why
      def deliver_rows(subscriber, rows, to)
        ending = now + @commit_interval
        last = 0
        rows.each do |row|
          error = error_of(subscriber, event = Event.new(row.merge("id" => row["uuid"])))
          return [last, event, error] if error

          last = row["id"]
          return [last] if @stopping || now > ending
        end
        [to]
      end

      def error_of(subscriber, event)
        return unless subscriber.listens?(event)

        TaskerCore.with_correlation_id(event.correlation_id) do
          ApplicationRecord.transaction(requires_new: true) { subscriber.new.call(event) }
        end
        nil
      rescue Exception => e # rubocop:disable Lint/RescueException -- of a subscriber: it is told of the same event again
        e
      end

      def acknowledge(transaction, to, event = nil, error = nil)
        return call(:ack_events, @process, @name, transaction, to, nil, nil) unless error

        failure = Worker::Failure.new(error)
        result = call(:ack_events, @process, @name, transaction, to, JsonValue.json(failure.to_h), JSON.generate(delays(failure)))

        Instrumentation.instrument("delivery_failed", subscription: @name, event: event, error: error,
                                                      failures: result["failures"],
                                                      retry_after: result["delay_ms"] / 1000.0)
      end

      # The time for which the subscriber asked wins over the policy.
      def delays(failure)
        requested = failure.retry_after
        policy = requested ? { backoff: "fixed", base: requested, factor: 1, cap: requested, jitter: 0 } : @retry
        policy.slice(:backoff, :factor, :jitter).merge(base_ms: milliseconds(policy[:base]), cap_ms: milliseconds(policy[:cap]))
      end

      # As PostgreSQL's integers can have it.
      def milliseconds(seconds) = (seconds * 1000).ceil.clamp(0, (2**31) - 1)

      def call(...) = ApplicationRecord.on_connection { |connection| Postgres::Functions.call(connection, ...) }
    end
  end
end
