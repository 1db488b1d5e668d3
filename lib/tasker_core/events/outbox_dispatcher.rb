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
      # @raise [UnknownEventError] when a pattern of a subscriber matches no durable event
      def initialize(configuration:, subscribers: DurableSubscribers.to_h)
        @configuration = configuration
        subscribers = {} unless configuration[:subscriptions, :deliver]
        @subscriptions = subscribers.map { |name, subscriber| { name: name, events: subscriber.durable_events } }
        @deliveries = []
      end

      # Registers the subscriptions and begins to deliver.
      # @param orchestrator [Native::Orchestrator]
      # @return [self]
      def start(orchestrator)
        return self if @subscriptions.empty?

        register
        @deliveries = @subscriptions.map do |subscription|
          Delivery.new(subscription[:name], configuration: @configuration, orchestrator: orchestrator)
        end
        @threads = @deliveries.map do |delivery|
          Support::RestartingThread.new("tasker-outbox-#{delivery.name}") { delivery.run }
        end
        self
      end

      # Registers the subscriptions, so that their events are stored from now on.
      def register = Postgres::Functions.run(:register_subscriptions, JSON.generate(@subscriptions))

      # Stops fetching events; running deliveries continue.
      def drain = @deliveries.each(&:stop)

      # Drains and waits for running deliveries.
      # @param timeout [Numeric] seconds; a delivery that takes longer is rolled back and made again later
      def stop(timeout:)
        drain
        deadline = now + timeout
        busy, idle = @threads.to_a.zip(@deliveries).partition { |_, delivery| delivery.busy? }
                             .map { |pairs| pairs.map(&:first) }
        Support::RestartingThread.stop(idle)
        Support::RestartingThread.stop(busy, patience: [deadline - now, 0].max)
      end
    end
  end
end
