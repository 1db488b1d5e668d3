# frozen_string_literal: true

require "dry/events/event"

module TaskerCore
  class Events
    # A subscription of an object as dry-events has them: for `step.failed` its method `on_step_failed` is called with a
    # `Dry::Events::Event`, for each event of which it has the method.
    #
    # @api private
    class ObjectSubscription
      # Events of the gem's own; an application's may become known later.
      OWN_METHOD = /\Aon_(task|step|workflow)_/
      private_constant :OWN_METHOD

      # @return [Object]
      attr_reader :object
      # @return [Hash] fields of the payload that must have these values
      attr_reader :fields

      def initialize(object, fields)
        @object = object
        @fields = fields
        @listeners = {}
      end

      # @param native [Native::EventPublisher] which knows all names of events
      # @return [Array<String>] those of which the object has the method
      # @raise [UnknownEventError] when there is none
      def names(native)
        known = native.resolve("*")
        found = known.select { |name| @object.respond_to?(method_for(name)) }
        return found if found.any?

        raise UnknownEventError.new("#{label} has no method for an event: on_step_failed, for example, is called for " \
                                    "step.failed#{suggestion(known)}")
      end

      def patterns(native) = names(native)

      # @return [Proc] the same one for each call
      def listener_for(name) = @listeners[name] ||= @object.method(method_for(name)).to_proc

      # @return [Array<Proc>] all that {#listener_for} has returned
      def listeners = @listeners.values

      # @param target [Object] what the application gives to unsubscribe: the subscription or the object
      def of?(target) = equal?(target) || @object.equal?(target)

      # @return [Array<Symbol>] methods named as if for an event of the gem's own, and for none
      # @raise [UnknownEventError] when no other method is named for an event
      def unmatched(native) = own_methods - names(native).map { |name| method_for(name) }

      # @return [String, nil] the class of the object, or the object itself if it is a class or module; nil without a name
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
