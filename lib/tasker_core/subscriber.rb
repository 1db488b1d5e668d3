# frozen_string_literal: true

module TaskerCore
  # A listener as a class, in `app/subscribers`. Each event is passed to a new object.
  #
  # @example Called in the process that made the change, after its commit
  #   class Pager < TaskerCore::Subscriber
  #     subscribe_to "step.failed", "task.failed"
  #
  #     def call(event) = Pagers.alarm("#{event.name}: #{event[:error]&.fetch('message')}")
  #   end
  #
  # @example Called by a worker, at least once, whatever crashes
  #   class Ledger < TaskerCore::Subscriber
  #     durable
  #     subscribe_to "task.completed"
  #
  #     def call(event) = Booking.create!(event: event.id, task: event[:task_id])
  #   end
  class Subscriber
    class << self
      # Subscribes the class to events.
      # @param patterns [Array<String>] names, or `step.*`, or `*`
      # @param filter [Hash] values that fields of the payload must have
      # @raise [UnknownEventError] with the nearest name when a pattern matches no event, or when no event has a field
      #   of the filter
      # @raise [ConfigurationError] without a pattern, with a value that can match no event, or with a block, which
      #   nothing would call
      def subscribe_to(*patterns, **filter, &block)
        invalid!("subscribe_to: #{name} has a block, which has no effect: define call(event)") if block
        invalid!("subscribe_to: #{name} names no event: subscribe_to \"step.failed\"") if patterns.empty?

        filter = Events::Filter.new(filter).verify(patterns, TaskerCore.events.native)
        patterns.each do |pattern|
          interests << [pattern, filter]
          listen(pattern, filter) unless @durable_name
        end
      end

      # Makes the subscription durable: its events are stored and delivered by workers. docs/events.md, "Durable
      # subscriptions".
      #
      # @param name [String] of the subscription in the database
      # @raise [ConfigurationError] when another class has the name
      def durable(name = self.name&.underscore)
        invalid!("durable: a class without a name needs one here: durable \"ledger\"") if name.blank?

        Events::DurableSubscribers.add(name.to_s, self)
        @durable_name = name.to_s
        unlisten
      end

      # @return [Hash{String => Class<Subscriber>}] the durable subscribers of this process, by the name of their
      #   subscription
      def durable_subscribers = Events::DurableSubscribers.to_h

      # @return [Array<String>] names of the events that are stored for it
      # @raise [UnknownEventError] when a pattern matches no durable event
      def durable_events = interests.flat_map { |pattern, _| TaskerCore.events.native.resolve_durable(pattern) }.uniq

      # @param event [Event]
      # @return [Boolean] whether {subscribe_to} selects it
      def listens?(event)
        interests.any? do |pattern, filter|
          TaskerCore.events.native.resolve(pattern).include?(event.name) && filter.select?(event)
        end
      end

      # Reverts {subscribe_to} and {durable}, for instance before the class is loaded again.
      def unsubscribe
        unlisten
        interests.clear
        Events::DurableSubscribers.remove(@durable_name, self) if @durable_name
      end

      private

      def invalid!(message) = raise(ConfigurationError.new(message))

      def interests = @interests ||= []

      def subscriptions = @subscriptions ||= []

      def listen(pattern, filter)
        subscriptions << TaskerCore.events.subscribe_filtered(pattern, filter) { |event| new.call(event) }
      end

      def unlisten
        subscriptions.each { |subscription| TaskerCore.events.unsubscribe(subscription) }
        subscriptions.clear
      end
    end

    # Handles an event.
    # @abstract
    # @param event [Event]
    # @raise [StandardError] anything: a durable subscriber gets the event again; otherwise the error is only reported
    def call(event)
      raise NotImplementedError, "#{self.class} has to define call(event)"
    end
  end
end
