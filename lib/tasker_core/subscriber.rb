# frozen_string_literal: true

module TaskerCore
  # A listener as a class, in `app/subscribers`. Each event is given to an object of its own.
  #
  # @example
  #   class Pager < TaskerCore::Subscriber
  #     subscribe_to "step.failed", "task.failed"
  #
  #     def call(event) = Pagers.alarm("#{event.name}: #{event[:error]&.fetch('message')}")
  #   end
  class Subscriber
    class << self
      # @param patterns [Array<String>] names, or `step.*`, or `*`
      # @param filter [Hash] fields of the payload that must have these values
      # @raise [UnknownEventError] with the nearest name when a pattern matches none
      def subscribe_to(*patterns, **filter)
        patterns.each do |pattern|
          subscriptions << TaskerCore.events.subscribe(pattern, filter) { |event| new.call(event) }
        end
      end

      # Ends what {subscribe_to} began, as when its code is loaded again.
      def unsubscribe
        subscriptions.each { |subscription| TaskerCore.events.unsubscribe(subscription) }
        subscriptions.clear
      end

      private

      def subscriptions = @subscriptions ||= []
    end

    # @param event [Event]
    def call(event)
      raise NotImplementedError, "#{self.class} has to define call(event)"
    end
  end
end
