# frozen_string_literal: true

require "after_commit_everywhere"
require "dry/events/publisher"

module TaskerCore
  # The events of this process. Publishers put them into the extension's buffer; a thread takes them in batches and
  # calls the listeners, through dry-events. A listener's error is reported and does not affect other listeners.
  class Events
    # A block that is subscribed to a pattern: returned by {#subscribe}, for {#unsubscribe}. Its methods are those of
    # {ObjectSubscription}.
    Subscription = Struct.new(:pattern, :fields, :listener) do
      # @api private
      def names(native) = native.resolve(pattern)

      # @api private
      def patterns(_native) = [pattern]

      # @api private
      def listener_for(_name) = listener

      # @api private
      def listeners = [listener]

      # @api private
      def of?(target) = equal?(target)
    end

    Bus = Class.new { include Dry::Events::Publisher[:tasker_core] }
    private_constant :Bus

    # @param configuration [#call] returns the current settings
    def initialize(configuration: -> { TaskerCore.config })
      @configuration = configuration
      @bus = Bus.new
      @registered = {}
      @subscriptions = []
      @mutex = Monitor.new
    end

    # Registers an event of the application.
    # @param name [String] lower-case words separated by dots: "order.shipped"
    # @param durable [Boolean] whether it is stored for durable subscribers, in the transaction that publishes it
    # @return [self]
    # @raise [UnknownEventError] when the name is malformed, or begins with task., step. or workflow.
    def register(name, durable: false)
      @mutex.synchronize do
        native.register(name.to_s, durable)
        @registered[name.to_s] = native.durable?(name.to_s)
        @subscriptions.each { |subscription| attach(subscription) }
        update_interests
      end
      self
    end

    # Subscribes a block to the events that match a pattern; or an object with methods for events, as in dry-events:
    # `on_step_failed` for `step.failed`. A method gets a `Dry::Events::Event`, whose payload has the {Event} as
    # `:event` beside the fields.
    #
    # @param target [String, Object] a name, or `step.*`, or `*`; without a block, the object. An object that is already
    #   subscribed with the same filter keeps that subscription.
    # @param filter [Hash] values that fields of the payload must have
    # @yieldparam event [Event]
    # @return [Subscription, ObjectSubscription] for {#unsubscribe}
    # @raise [UnknownEventError] with the nearest name when no event matches the pattern, the object's methods, or a
    #   field of the filter
    # @raise [ConfigurationError] when the filter has a value that can match no event
    # @raise [ArgumentError] for a name without a block
    def subscribe(target, filter = {}, &listener)
      filter = Filter.new(filter)
      return subscribe_object(target, filter) unless listener

      subscribe_filtered(target, filter.verify([target], native), &listener)
    end

    # @api private for {Subscriber}, which verifies the filter against all of its patterns
    # @param pattern [String]
    # @param filter [Filter]
    # @yieldparam event [Event]
    # @return [Subscription]
    def subscribe_filtered(pattern, filter, &listener)
      @mutex.synchronize { add(Subscription.new(pattern, filter.to_h, unwrapping(listener))) }
    end

    # @param target [Subscription, ObjectSubscription, Object] the result of {#subscribe}, or a subscribed object
    # @return [self]
    def unsubscribe(target)
      @mutex.synchronize do
        left, @subscriptions = @subscriptions.partition { |subscription| subscription.of?(target) }
        gone = left.flat_map(&:listeners)
        # The bus's own `unsubscribe` finds only the listeners that its own `subscribe` has made of an object.
        attached.each_value do |listeners|
          listeners.delete_if { |listener, _| gone.any? { |other| other.equal?(listener) } }
        end
        update_interests
      end
      self
    end

    # @param target [Subscription, ObjectSubscription, Object] the result of {#subscribe}, or an object
    # @return [Boolean]
    def subscribed?(target) = @mutex.synchronize { @subscriptions.any? { |subscription| subscription.of?(target) } }

    # @api private unsubscribes objects of old classes when the application's code is loaded again
    # @yieldparam class_name [String]
    # @yieldreturn [Boolean] whether the class is unloaded
    def unsubscribe_unloaded
      objects = @mutex.synchronize { @subscriptions.grep(ObjectSubscription) }
      objects.select { |subscription| subscription.class_name && yield(subscription.class_name) }
             .each { |subscription| unsubscribe(subscription) }
    end

    # Publishes an event of the application: at once, or after the commit of the current transaction.
    #
    # @param name [String]
    # @param payload [Hash]
    # @param correlation_id [String, nil] a UUID; by default the current one
    # @return [nil]
    # @raise [UnknownEventError] with the nearest name when it is not registered
    # @raise [InputError] when the payload has no JSON representation
    # @raise [DatabaseError] when it is durable and cannot be stored
    def publish(name, payload = {}, correlation_id: TaskerCore.correlation_id)
      native.resolve(name)
      text = Support::JsonValue.input_json(payload, "payload", "the payload of #{name}")
      store(name, text, correlation_id) if native.durable?(name)
      after_commit do
        native.publish(name, correlation_id, text, @thread&.current? || false) if native.interested?(name)
      end
      nil
    end

    # @param name [String]
    # @return [Boolean] whether the event has listeners in this process
    def listeners?(name) = native.interested?(name)

    # @param prefixes [Array<String>]
    # @return [Boolean] whether any event whose name begins with one of these has listeners in this process
    def listeners_with_prefix?(*prefixes) = prefixes.any? { |prefix| native.interested_in_any?(prefix) }

    # @return [Hash{Symbol => Integer}] published, delivered, dropped, waiting
    def stats = native.stats

    # Delivers the waiting events and ends: events that are published later are dropped.
    # @param timeout [Numeric] seconds to wait for listeners
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
      report_unmatched(subscription)
      @mutex.synchronize do
        @subscriptions.find { |other| other.of?(object) && other.fields == filter.to_h } || add(subscription)
      end
    end

    def report_unmatched(subscription)
      methods = subscription.unmatched(native)
      return if methods.empty?

      Instrumentation.instrument("listener_methods_ignored", listener: subscription.label, methods: methods)
    end

    def add(subscription)
      @subscriptions << subscription
      attach(subscription)
      update_interests
      subscription
    end

    # Called again when an event is registered later.
    def attach(subscription)
      subscription.names(native).each do |name|
        listener = subscription.listener_for(name)
        @bus.register_event(name)
        next if attached[name].any? { |other, _| other.equal?(listener) }

        @bus.subscribe(name, subscription.fields, &listener)
      end
    end

    def attached = @bus.__bus__.listeners

    # Events without listeners are not built at all.
    def update_interests
      notify_all = @configuration.call[:events, :notifications]
      patterns = notify_all ? ["*"] : @subscriptions.flat_map { |subscription| subscription.patterns(@native) }.uniq
      @native.set_interests(patterns)
      @thread ||= Support::RestartingThread.new("tasker-events") { deliver_batches } if patterns.any?
    end

    def unwrapping(listener) = ->(event) { listener.call(event[:event]) }

    # Continues where a killed thread stopped: the batch is kept outside of it.
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

    # The listeners of this moment: one that subscribes while an event is delivered gets the next one.
    def listeners(event)
      payload = event.payload.transform_keys(&:to_sym).merge(event: event)
      @mutex.synchronize do
        @bus.register_event(event.name)
        [].tap { |found| @bus.process(event.name, payload) { |argument, listener| found << [listener, argument] } }
      end
    end

    def isolate(event, &block)
      return Support::HostApplication.current.run(&block) unless event.correlation_id

      TaskerCore.with_correlation_id(event.correlation_id) { Support::HostApplication.current.run(&block) }
    rescue Exception => e # rubocop:disable Lint/RescueException -- raised by a listener: the others are still called
      Instrumentation.instrument("listener_failed", event: event, error: e)
    end

    def store(name, text, correlation_id)
      event = %([{"name":#{name.to_json},"correlation_id":#{correlation_id.to_json},"payload":#{text}}])
      ApplicationRecord.on_connection do |connection|
        Postgres::Functions.ensure_current(connection)
        Postgres::Functions.call(connection, :store_events, event)
      end
    end

    # Runs the block at once outside a transaction. If the gem's tables have a database of their own, its transaction
    # takes precedence.
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
