# frozen_string_literal: true

module TaskerCore
  class Events
    # The durable subscribers of this process, by the name of their subscription. A class that is loaded again replaces
    # its former self.
    #
    # @api private
    module DurableSubscribers
      CLASSES = Concurrent::Map.new
      private_constant :CLASSES

      module_function

      # @param name [String] of the subscription
      # @param subscriber [Class<Subscriber>]
      # @raise [ConfigurationError] when another class has the name
      def add(name, subscriber)
        other = CLASSES[name]
        if other && other.name != subscriber.name
          raise ConfigurationError.new("durable: #{name.inspect} is the subscription of #{other.name}: " \
                                       "give #{subscriber.name} another name")
        end

        CLASSES[name] = subscriber
      end

      # @return [Class<Subscriber>]
      # @raise [KeyError]
      def fetch(name) = CLASSES.fetch(name)

      # @param name [String]
      # @param subscriber [Class<Subscriber>] removed unless another class has taken its place
      def remove(name, subscriber) = CLASSES.delete_pair(name, subscriber)

      # @return [Hash{String => Class<Subscriber>}]
      def to_h = CLASSES.each_pair.to_h
    end
  end
end
