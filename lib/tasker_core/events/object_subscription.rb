# frozen_string_literal: true

require "dry/events/event"

module TaskerCore
  class Events
    # The subscription of an object, as in dry-events: its method `on_step_failed` is called for `step.failed`, with a
    # `Dry::Events::Event`.
    #
    # @api private
    class ObjectSubscription
      # A method for an event of the gem; the application's events may be declared later.
      OWN_METHOD = /\Aon_(task|step|workflow)_/
      private_constant :OWN_METHOD

      # @return [Object]
      attr_reader :object
      # @return [Hash] values of fields of the payload, see {Filter#to_h}
      attr_reader :fields

      # @param object [Object]
      # @param fields [Hash] see {Filter#to_h}
      def initialize(object, fields)
        @object = object
        @fields = fields
        @listeners = {}
      end

      # @param native [Native::EventPublisher] knows the names of all events
      # @return [Array<String>] events for which the object has a method
      # @raise [UnknownEventError] when it has none
      def names(native)
        known = native.resolve("*")
        found = known.select { |name| @object.respond_to?(method_for(name)) }
        return found if found.any?

        raise UnknownEventError.new("#{label} has no method for an event: on_step_failed, for example, is called for " \
                                    "step.failed#{suggestion(known)}")
      end

      # @param native [Native::EventPublisher]
      # @return [Array<String>] what {Events} must be interested in for it: here the same as {#names}
      def patterns(native) = names(native)

      # @param name [String] of an event
      # @return [Proc] the same object at each call
      def listener_for(name) = @listeners[name] ||= @object.method(method_for(name)).to_proc

      # @return [Array<Proc>] all that {#listener_for} has returned
      def listeners = @listeners.values

      # @param target [Object] the argument of {Events#unsubscribe}: the subscription or the object
      def of?(target) = equal?(target) || @object.equal?(target)

      # @param native [Native::EventPublisher]
      # @return [Array<Symbol>] methods that look like those for the gem's events, but match none
      # @raise [UnknownEventError] when no method matches an event
      def unmatched(native) = own_methods - names(native).map { |name| method_for(name) }

      # @return [String, nil] the name of the object's class, or of the object if it is a class or module
      def class_name = (@object.is_a?(Module) ? @object : @object.class).name

      # @return [String] for messages
      def label = class_name || @object.class.to_s

      private

      def method_for(name) = Dry::Events::Event.new(name, {}).listener_method

      def own_methods = @object.public_methods.grep(OWN_METHOD)

      def suggestion(known)
        methods = known.map { |name| method_for(name).name }
        method, nearest = own_methods.map { |name| [name, Support::Spelling.nearest(name, methods)] }.find(&:last)
        ": did you mean `#{nearest}` by `#{method}`?" if nearest
      end
    end
  end
end
