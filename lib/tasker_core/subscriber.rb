# frozen_string_literal: true

module TaskerCore
  # A listener as a class, in `app/subscribers`. Each event is given to an object of its own.
  #
  # @example Told in the process that made the change, after its commit
  #   class Pager < TaskerCore::Subscriber
  #     subscribe_to "step.failed", "task.failed"
  #
  #     def call(event) = Pagers.alarm("#{event.name}: #{event[:error]&.fetch('message')}")
  #   end
  #
  # @example Told at least once, whatever crashes, by a worker
  #   class Ledger < TaskerCore::Subscriber
  #     durable
  #     subscribe_to "task.completed"
  #
  #     def call(event) = Booking.create!(event: event.id, task: event[:task_id])
  #   end
  class Subscriber
    # Durable subscribers of this process by the name of their subscription; a name stays with its class when that is
    # loaded again.
    DURABLE = Concurrent::Map.new
    private_constant :DURABLE

    class << self
      # @param patterns [Array<String>] names, or `step.*`, or `*`
      # @param filter [Hash] fields of the payload that must have these values
      # @raise [UnknownEventError] with the nearest name when a pattern matches none, or when no event has a field of the filter
      # @raise [ConfigurationError] when it has no pattern, a value that can match no event, or a block, which nothing would call
      def subscribe_to(*patterns, **filter, &block)
        raise ConfigurationError.new("subscribe_to: #{name} gives it a block, which nothing calls: define call(event)") if block
        raise ConfigurationError.new("subscribe_to: #{name} names no event: subscribe_to \"step.failed\"") if patterns.empty?

        filter = Events::Filter.new(filter).verify(patterns, TaskerCore.events.native)
        patterns.each do |pattern|
          interests << [pattern, filter]
          listen(pattern, filter) unless @durable_name
        end
      end

      # Has the events written down, and delivered by workers: docs/events.md, "Durable subscriptions".
      #
      # @param name [String] of the subscription in the database
      # @raise [ConfigurationError] when another class has it
      def durable(name = self.name&.underscore)
        raise ConfigurationError.new("durable: a class without a name needs one here: durable \"ledger\"") if name.blank?

        verify_free(name)
        unlisten
        DURABLE[@durable_name = name.to_s] = self
      end

      # @return [Hash{String => Class<Subscriber>}] the durable ones of this process, by the name of their subscription
      def durable_subscribers = DURABLE.each_pair.to_h

      # @return [Array<String>] what the events are called that are written down for it
      # @raise [UnknownEventError] when one of its patterns stands for none
      def durable_events = interests.flat_map { |pattern, _| TaskerCore.events.native.resolve_durable(pattern) }.uniq

      # @param event [Event]
      # @return [Boolean] whether it is one of those that {subscribe_to} asks for
      def listens?(event)
        interests.any? do |pattern, filter|
          TaskerCore.events.native.resolve(pattern).include?(event.name) && filter.select?(event)
        end
      end

      # Ends what {subscribe_to} began, as when its code is loaded again.
      def unsubscribe
        unlisten
        interests.clear
        DURABLE.delete_pair(@durable_name, self) if @durable_name
      end

      private

      def verify_free(name)
        other = DURABLE[name.to_s]
        return if other.nil? || other.name == self.name

        raise ConfigurationError.new("durable: #{name.inspect} is the subscription of #{other.name}: " \
                                     "give #{self.name} another name")
      end

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

    # @param event [Event]
    def call(event)
      raise NotImplementedError, "#{self.class} has to define call(event)"
    end
  end
end
