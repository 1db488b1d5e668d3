# frozen_string_literal: true

module TaskerCore
  class Events
    # Delivers the events of durable subscriptions, in a worker: one thread for each subscription.
    #
    # @api private
    class OutboxDispatcher
      include Support::MonotonicClock

      # @param configuration [Configuration]
      # @param subscribers [Hash{String => Class<Subscriber>}] by the subscription's name
      # @raise [UnknownEventError] when a subscriber can never be told anything
      def initialize(configuration:, subscribers: Subscriber.durable_subscribers)
        @configuration = configuration
        subscribers = {} unless configuration[:subscriptions, :deliver]
        @subscriptions = subscribers.map { |name, subscriber| { name: name, events: subscriber.durable_events } }
        @deliveries = []
      end

      # Enters the subscriptions, and begins to deliver.
      # @param orchestrator [Native::Orchestrator]
      # @return [self]
      def start(orchestrator)
        return self if @subscriptions.empty?

        register
        @deliveries = @subscriptions.map do |subscription|
          Delivery.new(subscription[:name], configuration: @configuration, orchestrator: orchestrator)
        end
        @threads = @deliveries.map { |delivery| Worker::RestartingThread.new("tasker-outbox-#{delivery.name}") { delivery.run } }
        self
      end

      # Enters the subscriptions, so that their events are kept from now on.
      def register
        ApplicationRecord.on_connection do |connection|
          Postgres::Functions.call(connection, :register_subscriptions, JSON.generate(@subscriptions))
        end
      end

      # Takes no more events; what is being delivered goes on.
      def drain = @deliveries.each(&:stop)

      # Drains, and waits for what is being delivered.
      # @param timeout [Numeric] seconds; what takes longer is undone, and delivered again
      def stop(timeout:)
        drain
        deadline = now + timeout
        busy, idle = @threads.to_a.zip(@deliveries).partition { |_, delivery| delivery.busy? }.map { |pairs| pairs.map(&:first) }
        Worker::RestartingThread.stop(idle)
        Worker::RestartingThread.stop(busy, patience: [deadline - now, 0].max)
      end
    end
  end
end
