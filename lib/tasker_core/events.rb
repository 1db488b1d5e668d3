# frozen_string_literal: true

require "after_commit_everywhere"
require "dry/events/publisher"

module TaskerCore
  # The process's events: who publishes puts them into the extension's buffer, and a thread of ours takes them out in batches
  # and tells the listeners, by way of dry-events. A listener that raises is reported and stops nobody else.
  class Events
    # A block that listens to a pattern. Returned by {#subscribe}, for {#unsubscribe}.
    Subscription = Struct.new(:pattern, :fields, :listener) do
      def names(native) = native.resolve(pattern)

      def patterns(_native) = [pattern]

      def listener_for(_name) = listener

      def listeners = [listener]

      def of?(target) = equal?(target)
    end

    Bus = Class.new { include Dry::Events::Publisher[:tasker_core] }
    private_constant :Bus

    # @param configuration [#call] answers the settings in force
    def initialize(configuration: -> { TaskerCore.config })
      @configuration = configuration
      @bus = Bus.new
      @registered = {}
      @subscriptions = []
      @mutex = Monitor.new
    end

    # Makes an event of the application's own known.
    # @param name [String] lower-case words with a dot between them: "order.shipped"
    # @param durable [Boolean] whether it is written down for durable subscribers, in the transaction that publishes it
    # @raise [UnknownEventError] when it has another form, or begins with a word of ours
    def register(name, durable: false)
      @mutex.synchronize do
        native.register(name.to_s, durable)
        @registered[name.to_s] = native.durable?(name.to_s)
        @subscriptions.each { |subscription| attach(subscription) }
        update_interests
      end
      self
    end

    # Has a block called for every event that matches; or, as dry-events does, those methods of an object that are named
    # for events: `on_step_failed` for `step.failed`. A method gets a `Dry::Events::Event`, whose payload has the {Event} as
    # `:event` beside the fields.
    #
    # @param target [String, Object] a name, or `step.*`, or `*`; without a block, the object. An object that is subscribed
    #   with the same filter already keeps its one subscription.
    # @param filter [Hash] fields of the payload that must have these values
    # @yieldparam event [Event]
    # @return [Subscription, ObjectSubscription] for {#unsubscribe}
    # @raise [UnknownEventError] with the nearest name when the pattern matches no event, or no method of the object does, or no
    #   event has a field of the filter
    # @raise [ConfigurationError] when the filter has a value that can match no event
    # @raise [ArgumentError] when there is a name and no block
    def subscribe(target, filter = {}, &listener)
      filter = Filter.new(filter)
      return subscribe_object(target, filter) unless listener

      subscribe_filtered(target, filter.verify([target], native), &listener)
    end

    # @api private for {Subscriber}, which has verified the filter against all of its patterns
    # @param filter [Filter]
    def subscribe_filtered(pattern, filter, &listener)
      @mutex.synchronize { add(Subscription.new(pattern, filter.to_h, unwrapping(listener))) }
    end

    # @param target [Subscription, ObjectSubscription, Object] what {#subscribe} returned, or an object that listens
    # @return [self]
    def unsubscribe(target)
      @mutex.synchronize do
        left, @subscriptions = @subscriptions.partition { |subscription| subscription.of?(target) }
        gone = left.flat_map(&:listeners)
        # The bus's own `unsubscribe` knows only what its own `subscribe` has found in an object.
        attached.each_value { |listeners| listeners.delete_if { |listener, _| gone.any? { |other| other.equal?(listener) } } }
        update_interests
      end
      self
    end

    # @param target [Subscription, ObjectSubscription, Object] what {#subscribe} returned, or an object that listens
    # @return [Boolean]
    def subscribed?(target) = @mutex.synchronize { @subscriptions.any? { |subscription| subscription.of?(target) } }

    # @api private when the application's code is loaded again: objects of its old classes hear nothing more
    # @yieldparam class_name [String]
    # @yieldreturn [Boolean] whether the class is unloaded
    def unsubscribe_unloaded
      objects = @mutex.synchronize { @subscriptions.grep(ObjectSubscription) }
      objects.each { |subscription| unsubscribe(subscription) if subscription.class_name && yield(subscription.class_name) }
    end

    # Publishes an event of the application's own; inside a transaction it leaves after the commit, or never.
    #
    # @param name [String]
    # @param payload [Hash]
    # @param correlation_id [String, nil] a UUID; by default the one that is current
    # @raise [UnknownEventError] with the nearest name when it is not known
    # @raise [InputError] when the payload has no form in JSON
    # @raise [DatabaseError] when it is durable and cannot be written down
    def publish(name, payload = {}, correlation_id: TaskerCore.correlation_id)
      native.resolve(name)
      text = JsonValue.json(payload, "payload")
      store(name, text, correlation_id) if native.durable?(name)
      after_commit { native.publish(name, correlation_id, text, @thread&.current? || false) if native.interested?(name) }
      nil
    rescue JsonValue::Unwritable => e
      raise InputError.unwritable("the payload of #{name}", e)
    end

    # @return [Boolean] whether anybody listens to a name
    def listeners?(name) = native.interested?(name)

    # @return [Boolean] whether anybody listens to a name that begins with one of these
    def listeners_with_prefix?(*prefixes) = prefixes.any? { |prefix| native.interested_in_any?(prefix) }

    # @return [Hash{Symbol => Integer}] published, delivered, dropped, waiting
    def stats = native.stats

    # Tells what is there still, and takes nothing more.
    # @param timeout [Numeric] seconds
    def stop(timeout: 5)
      return unless @pid == Process.pid

      @native.close
      @thread&.join(timeout)
    end

    # @api private for {Bridge}: this process's buffer; a forked child has its own
    def native
      return @native if @pid == Process.pid

      @mutex.synchronize { start unless @pid == Process.pid }
      @native
    end

    private

    def start
      @native = Bridge.event_publisher(@configuration.call)
      @registered.each { |name, durable| @native.register(name, durable) }
      @thread = nil
      @batch = []
      @pid = Process.pid
      update_interests
    end

    def subscribe_object(object, filter)
      raise ArgumentError, "subscribe(#{object.inspect}): give a block" if object.is_a?(String) || object.is_a?(Symbol)

      subscription = ObjectSubscription.new(object, filter.to_h)
      filter.verify(subscription.names(native), native)
      unmatched = subscription.unmatched(native)
      Instrumentation.instrument("listener_methods_ignored", listener: subscription.label, methods: unmatched) if unmatched.any?
      @mutex.synchronize { @subscriptions.find { |other| other.of?(object) && other.fields == filter.to_h } || add(subscription) }
    end

    def add(subscription)
      @subscriptions << subscription
      attach(subscription)
      update_interests
      subscription
    end

    # Subscriptions of a name that came later are attached then.
    def attach(subscription)
      subscription.names(native).each do |name|
        listener = subscription.listener_for(name)
        @bus.register_event(name)
        next if attached[name].any? { |other, _| other.equal?(listener) }

        @bus.subscribe(name, subscription.fields, &listener)
      end
    end

    def attached = @bus.__bus__.listeners

    # What nobody listens to is not even built.
    def update_interests
      notify_all = @configuration.call[:events, :notifications]
      patterns = notify_all ? ["*"] : @subscriptions.flat_map { |subscription| subscription.patterns(@native) }.uniq
      @native.set_interests(patterns)
      @thread ||= Worker::RestartingThread.new("tasker-events") { deliver_batches } if patterns.any?
    end

    def unwrapping(listener) = ->(event) { listener.call(event[:event]) }

    # Goes on where a thread that was killed has left off.
    def deliver_batches
      native = @native
      while @batch.any? || (batch = native.next_batch)
        @batch = JSON.parse(batch) if @batch.empty?
        deliver(Event.new(@batch.shift))
      end
    end

    def deliver(event)
      listeners(event).each { |listener, argument| isolate(event) { listener.call(argument) } }
      return unless @configuration.call[:events, :notifications]

      at = event.occurred_at
      isolate(event) { ActiveSupport::Notifications.publish("#{event.name}.tasker_core", at, at, event.id, event.to_h) }
    end

    # Those of this moment: who comes while an event is told hears the next one.
    def listeners(event)
      payload = event.payload.transform_keys(&:to_sym).merge(event: event)
      @mutex.synchronize do
        @bus.register_event(event.name)
        [].tap { |found| @bus.process(event.name, payload) { |argument, listener| found << [listener, argument] } }
      end
    end

    def isolate(event, &block)
      return Worker::HostApplication.current.run(&block) unless event.correlation_id

      TaskerCore.with_correlation_id(event.correlation_id) { Worker::HostApplication.current.run(&block) }
    rescue Exception => e # rubocop:disable Lint/RescueException -- of a listener: the others are told all the same
      Instrumentation.instrument("listener_failed", event: event, error: e)
    end

    def store(name, text, correlation_id)
      event = %([{"name":#{name.to_json},"correlation_id":#{correlation_id.to_json},"payload":#{text}}])
      ApplicationRecord.on_connection do |connection|
        Postgres::Functions.ensure_current(connection)
        Postgres::Functions.call(connection, :store_events, event)
      end
    end

    # Outside a transaction at once. The gem's own counts first, where its tables are in a database of their own.
    def after_commit(&block)
      connection = [ApplicationRecord, ActiveRecord::Base].filter_map { |type| in_use(type) }.find(&:transaction_open?)
      return yield unless connection

      AfterCommitEverywhere.after_commit(connection: connection, &block)
    end

    def in_use(type)
      type.connection_pool.active_connection? && type.connection
    rescue ActiveRecord::ConnectionNotEstablished
      nil
    end
  end
end
