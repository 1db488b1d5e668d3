# frozen_string_literal: true

module TaskerCore
  class Events
    # Delivers the events of one durable subscription to its subscriber, one after the other. The subscriber's writes to
    # the database commit together with the acknowledgement of the event, or not at all
    # (`db/functions/outbox/fetch_events.sql`).
    #
    # @api private
    class Delivery
      include Support::MonotonicClock

      FIRST_PAUSE = 0.005
      AFTER_ERROR = 1.0
      private_constant :FIRST_PAUSE, :AFTER_ERROR

      # @return [String] of the subscription
      attr_reader :name

      # @param name [String] of the subscription
      # @param configuration [Configuration]
      # @param orchestrator [Native::Orchestrator]
      # @param host [Support::HostApplication] wraps each delivery
      def initialize(name, configuration:, orchestrator:, host: Support::HostApplication.current)
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

      # Delivers until {#stop}.
      def run
        poll until @stopping
      end

      # Makes {#run} return after the current event.
      def stop = @stopping = true

      # @return [Boolean] whether an event is being delivered
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
        report_and_pause(e)
      end

      def report_and_pause(error)
        Instrumentation.instrument("delivery_poll_failed", subscription: @name, error: error)
        sleep AFTER_ERROR
      end

      # The subscription was registered when the worker started; since then it was dropped, or its table truncated.
      def register
        subscription = { name: @name, events: DurableSubscribers.fetch(@name).durable_events }
        Postgres::Functions.run(:register_subscriptions, JSON.generate([subscription]))
      end

      # @return [Hash, nil] nil when the events could not be fetched together
      def fetch_batch
        @process = @orchestrator.process_id
        Postgres::Functions.run(:fetch_events, @process, @name, @fetch_size, true)
      rescue Error, ActiveRecord::ActiveRecordError => e
        raise unless Postgres::Functions.of_rows?(e)

        reduce(@fetch_size, e)
      end

      # Fetches fewer events at once from now on, so that an event that cannot be delivered does not hold up those
      # before it. When it is fetched alone, it fails.
      # @param count [Integer] number of events that could not be delivered together
      # @param first [Integer, nil] the first one's id, if it was fetched
      def reduce(count, error, first = nil)
        return fail_first(error, first) if count == 1

        @fetch_size = [@fetch_size, count / 2].min
        Instrumentation.instrument("delivery_poll_failed", subscription: @name, events: count, error: error)
        nil
      end

      def grow
        @fetch_size = [@fetch_size + (@fetch_size / 4.0).ceil, @batch_size].min
      end

      # Fails the next event as if its subscriber had raised: it is retried later, and operators see it and can skip it.
      # After an error that followed the commit, the next event is another one, which has not failed.
      def fail_first(error, first)
        row = Postgres::Functions.run(:fetch_events, @process, @name, 1, false)["events"].first
        return report_and_pause(error) unless row && [nil, row["id"]].include?(first)

        event = Event.new(row.merge("id" => row["uuid"], "payload" => {}))
        in_transaction { acknowledge(transaction_id, 0, event, error) }
        nil
      end

      # An open transaction may still commit an event with a lower id.
      def pause
        sleep @pause
        @pause = [@pause * 2, @poll_interval].min
      end

      # Backs off while finished steps produce no events for this subscription.
      def wait_for_events(wait_ms)
        pause
        seconds = [@poll_interval, (wait_ms || Float::INFINITY) / 1000.0].min
        progress = @orchestrator.wait_for_progress(@progress, seconds)
        @pause = FIRST_PAUSE if progress == @progress
        @progress = progress
      end

      def deliver(batch)
        @busy = true
        @pause = FIRST_PAUSE
        @host.run { commit(DurableSubscribers.fetch(@name), *batch.values_at("events", "to")) }
      ensure
        @busy = false
      end

      # A subscriber's writes may fail as late as the commit: by a deferred constraint, or a callback.
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
        ApplicationRecord.on_connection do |connection|
          connection.select_value("select pg_current_xact_id()::text::bigint")
        end
      end

      # @return [Array(Integer, Event, Exception)] the id up to which events are delivered; the event that failed and
      #   its error, if one did
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
      rescue Exception => e # rubocop:disable Lint/RescueException -- raised by a subscriber, which gets the event again
        e
      end

      def acknowledge(transaction, to, event = nil, error = nil)
        return Postgres::Functions.run(:ack_events, @process, @name, transaction, to, nil, nil) unless error

        failure = Support::Failure.new(error)
        result = Postgres::Functions.run(:ack_events, @process, @name, transaction, to,
                                         Support::JsonValue.json(failure.to_h), JSON.generate(delays(failure)))
        Instrumentation.instrument("delivery_failed", subscription: @name, event: event, error: error,
                                                      failures: result["failures"],
                                                      retry_after: result["delay_ms"] / 1000.0)
      end

      # A delay that the subscriber requests takes precedence over the policy.
      def delays(failure)
        requested = failure.retry_after
        policy = requested ? { backoff: "fixed", base: requested, factor: 1, cap: requested, jitter: 0 } : @retry
        policy.slice(:backoff, :factor, :jitter)
              .merge(base_ms: milliseconds(policy[:base]), cap_ms: milliseconds(policy[:cap]))
      end

      # Within the range of PostgreSQL's integers.
      def milliseconds(seconds) = (seconds * 1000).ceil.clamp(0, (2**31) - 1)
    end
  end
end
