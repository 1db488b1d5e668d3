# frozen_string_literal: true

module TaskerCore
  class Events
    # For workflows and handlers: the events that they publish.
    module Declarations
      # Makes an event known, so that `context.publish` may publish it and others may listen to it.
      #
      # @param name [String] lower-case words with a dot between them: "order.shipped"
      # @param durable [Boolean] whether it is written down for durable subscribers, in the transaction that publishes it
      # @raise [UnknownEventError] when it has another form, or begins with a word of ours
      def event(name, durable: false)
        TaskerCore.events.register(name, durable: durable)
      end
    end
  end
end
