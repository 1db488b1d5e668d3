# frozen_string_literal: true

module TaskerCore
  class Events
    # Declares the application's own events, in workflows and handlers.
    module Declarations
      # Declares an event, so that `context.publish` can publish it and others can subscribe to it.
      #
      # @param name [String] lower-case words separated by dots: "order.shipped"
      # @param durable [Boolean] whether it is stored for durable subscribers, in the transaction that publishes it
      # @raise [UnknownEventError] when the name is malformed, or begins with task., step. or workflow.
      def event(name, durable: false)
        TaskerCore.events.register(name, durable: durable)
      end
    end
  end
end
