# frozen_string_literal: true

RSpec.describe TaskerCore::Events do
  let(:events) { TaskerCore.events }
  let(:received) { Queue.new }

  after { @subscriptions&.each { |subscription| events.unsubscribe(subscription) } }

  def listen(pattern, filter = {}, to: events, &listener)
    listener ||= received.method(:<<)
    subscription = to.subscribe(pattern, filter, &listener)
    (@subscriptions ||= []) << subscription if to.equal?(events)
    subscription
  end

  # Returns events until one with this name arrives.
  def events_until(name)
    events = []
    events << Timeout.timeout(120) { received.pop } until events.last&.name == name
    events
  end

  def own(**settings)
    configuration = TaskerCore.config.with(events: settings)
    described_class.new(configuration: -> { configuration }).tap { |own| own.register("order.shipped") }
  end

  it "reach listeners once, in order, with the correlation id" do
    listen("*", { workflow: "announcing" })
    id = SecureRandom.uuid
    task = Announcing.set(correlation_id: id).create!
    with_worker do
      events = events_until("task.failed").reject { |event| event.name == "workflow.registered" }
      expect(events.map { |event| [event.name, event[:step]].compact.join(" ") })
        .to eq ["task.created", "step.started pack", "shop.packed pack", "step.completed pack",
                "step.started pay", "step.failed pay", "task.failed"]
      expect(events.map(&:correlation_id)).to all(eq id)
      expect(events.map { |event| event[:task_id] }).to all(eq task.id)
      expect(events.find { _1.name == "shop.packed" }.payload).to include("parcels" => 2, "attempt" => 1)
      expect(events.find { _1.name == "step.failed" }[:error])
        .to include("code" => "card_declined", "message" => "declined")
      expect(events.map(&:occurred_at)).to all(be_within(60).of(Time.now))
    end
    expect(received.size).to eq(0), "no event is delivered twice"
  end

  it "set the current correlation id for the listener" do
    current = Queue.new
    listen("shop.packed") { |_| current << TaskerCore.correlation_id }
    id = SecureRandom.uuid
    TaskerCore.with_correlation_id(id) { events.publish("shop.packed") }
    expect(Timeout.timeout(120) { current.pop }).to eq id
  end

  it "are published after the commit, never after a rollback" do
    listen("task.created")
    listen("shop.packed")
    ActiveRecord::Base.transaction do
      Line.create!(n: 2)
      events.publish("shop.packed", { of: "rolled back" })
      raise ActiveRecord::Rollback
    end
    task = nil
    ActiveRecord::Base.transaction do
      task = Line.set(idempotency_key: "once").create!(n: 2)
      events.publish("shop.packed", { of: "committed" })
      expect(received.size).to eq 0
    end
    Line.set(idempotency_key: "once").create!(n: 2)
    events = events_until("shop.packed")
    expect(events.map(&:name)).to eq %w[task.created shop.packed]
    expect([events.first[:task_id], events.last[:of]]).to eq [task.id, "committed"]
    expect(received.size).to eq(0), "a task that was there is not created again"
  end

  it "report operator actions and their consequences after commit" do
    listen("*")
    call = lambda do |*arguments|
      TaskerCore::Postgres::Functions.call(ActiveRecord::Base.connection, *arguments, "why", "ada")
    end
    outline = lambda do
      Array.new(received.size) { received.pop }.map { |event| [event.name, event[:step], event[:by]].compact.join(" ") }
    end
    failed = Announcing.create!
    with_worker { events_until("task.failed") }
    received.clear
    ActiveRecord::Base.transaction do
      call.call(:retry_task, failed.id)
      raise ActiveRecord::Rollback
    end
    call.call(:resolve_step, failed.id, 1)
    ended = events_until("task.completed")
    expect(ended.map { |event| [event.name, event[:step], event[:by], event[:reason]] })
      .to eq [["step.resolved_manually", "pay", "ada", "why"], ["task.completed", nil, nil, nil]]

    cancelled = Announcing.create!
    call.call(:cancel_task, cancelled.id)
    events.publish("shop.packed")
    eventually { received.size == 5 }
    expect(outline.call)
      .to eq ["task.created", "task.cancelled ada", "step.cancelled pack ada", "step.cancelled pay ada", "shop.packed"]
    expect { call.call(:cancel_task, cancelled.id) }.to raise_error(TaskerCore::TransitionError)
    events.publish("shop.packed")
    expect(received.pop.name).to eq("shop.packed"), "a rejected event is not delivered"
  end

  it "reach the other listeners when one raises, and log the error" do
    log = StringIO.new
    logger = TaskerCore.logger
    TaskerCore.logger = Logger.new(log)
    listen("shop.packed") { |_| raise "of its own making" }
    listen("shop.packed") { |_| throw :away }
    listen("shop.packed")
    2.times { |number| events.publish("shop.packed", { number: number }) }
    expect([received.pop, received.pop].map { |event| event[:number] }).to eq [0, 1]
    expect(log.string.lines.grep(/a listener raised.*RuntimeError.*of its own making.*shop.packed/).size).to eq 2
    expect(log.string).to include "UncaughtThrowError"
  ensure
    TaskerCore.logger = logger
  end

  it "reach an application's classes once after code reloading" do
    Witness::RECEIVED.clear
    events.publish("shop.packed", { workflow: "another" })
    events.publish("shop.packed", { workflow: "announcing", number: 1 })
    expect(Witness::RECEIVED.pop[:number]).to eq 1
    Witness.unsubscribe
    Object.send(:remove_const, :Witness)
    load "#{root}/spec/dummy/app/subscribers/witness.rb"
    events.publish("shop.packed", { workflow: "announcing", number: 2 })
    events.publish("shop.packed", { workflow: "announcing", number: 3 })
    expect([Witness::RECEIVED.pop, Witness::RECEIVED.pop].map { |event| event[:number] }).to eq [2, 3]
  end

  describe "with listeners of dry-events" do
    let(:pager) do
      received = self.received
      Class.new do
        define_method(:on_shop_packed) { |event| received << event }
        define_method(:on_step_failed) { |event| received << event }
      end
    end

    def subscribe(listener, filter = {})
      events.subscribe(listener, filter).tap { |subscription| (@subscriptions ||= []) << subscription }
    end

    def numbers(count) = Array.new(count) { Timeout.timeout(120) { received.pop }[:number] }

    def publish(*numbers) = numbers.each { |number| events.publish("shop.packed", { number: number }) }

    it "call methods with events of dry-events" do
      subscribe(pager.new)
      publish(1)
      event = received.pop
      expect(event).to be_a(Dry::Events::Event).and have_attributes(id: "shop.packed")
      expect(event.to_h).to include(number: 1, event: have_attributes(name: "shop.packed", correlation_id: nil))
      task = Announcing.create!
      with_worker do
        eventually { task.reload.state == "error" }
        failed = Array.new(2) { Timeout.timeout(120) { received.pop } }.find { |other| other.id == "step.failed" }
        expect([failed[:task_id], failed[:step], failed[:error]["code"]]).to eq [task.id, "pay", "card_declined"]
      end
    end

    it "match what dry-events' own publisher passes" do
      publisher = Class.new { include Dry::Events::Publisher[:events_spec] }.new
      publisher.register_event("shop.packed")
      listener = pager.new
      [publisher, events].each { |each| each.subscribe(listener, { number: 2 }) }
      publisher.publish("shop.packed", number: 1).publish("shop.packed", number: 2)
      publish(1, 2)
      theirs, ours = Array.new(2) { Timeout.timeout(120) { received.pop } }
      expect([ours.class, ours.id, ours[:number]]).to eq [theirs.class, theirs.id, theirs[:number]]
      events.unsubscribe(listener)
    end

    it "call an object once if subscribed twice, never once it left" do
      listener = pager.new
      2.times { subscribe(listener) }
      gone = pager.new
      subscribe(gone)
      events.unsubscribe(gone)
      publish(1, 2)
      expect(numbers(2)).to eq [1, 2]
      expect([listener, gone].map { |object| events.subscribed?(object) }).to eq [true, false]
      expect(events.subscribed?(@subscriptions.first)).to be true
      events.unsubscribe(listener)
      listen("shop.packed")
      publish(3)
      expect([numbers(1), received.size]).to eq [[3], 0]
    end

    it "reach the other listeners when one method raises" do
      subscribe(Class.new { def on_shop_packed(_) = raise("of its own making") }.new)
      subscribe(pager.new)
      publish(1)
      expect(numbers(1)).to eq [1]
    end

    it "reach a listener subscribed before their registration" do
      own_events = own
      received = self.received
      listener = Class.new do
        def on_order_shipped(_event) = nil
        define_method(:on_order_returned) { |event| received << event }
      end
      own_events.subscribe(listener.new)
      own_events.publish("order.shipped", { number: 0 })
      own_events.register("order.returned")
      own_events.publish("order.returned", { number: 1 })
      expect(numbers(1)).to eq [1]
      own_events.stop
    end

    it "reject an object without event methods and suggest a name" do
      mistyped = Class.new { def on_step_faild(_) = nil }
      expect { events.subscribe(mistyped.new) }
        .to raise_error(TaskerCore::UnknownEventError,
                        /has no method for an event.*did you mean `on_step_failed` by `on_step_faild`/)
      expect { events.subscribe(nil) }.to raise_error(TaskerCore::UnknownEventError, /NilClass has no method/)
      expect { events.subscribe("step.failed") }.to raise_error(ArgumentError, /give a block/)
    end

    it "warn about a method that no event calls" do
      warned = []
      subscriber = ActiveSupport::Notifications.subscribe("listener_methods_ignored.tasker_core") do |event|
        warned << event.payload[:methods]
      end
      subscribe(Class.new(pager) { def on_step_faild(_) = nil }.new)
      expect(warned).to eq [[:on_step_faild]]
    ensure
      ActiveSupport::Notifications.unsubscribe(subscriber)
    end

    it "drop objects of unloaded classes after code reloading" do
      reloader = Rails.application.reloader.new
      old = stub_const("OldPager", Class.new(pager)).new
      kept = stub_const("KeptPager", Class.new(pager)).new
      [old, kept].each { |listener| subscribe(listener) }
      allow(Rails.autoloaders.main).to receive(:unloadable_cpath?) { |name| name == "OldPager" }
      reloader.class_unload! { nil }
      expect([old, kept].map { |object| events.subscribed?(object) }).to eq [false, true]
    ensure
      reloader.release_unload_lock!
      Witness.subscribe_to("shop.*", workflow: "announcing")
    end
  end

  it "reject a block that a subscriber would never call" do
    expect { stub_const("Deaf", Class.new(TaskerCore::Subscriber)).subscribe_to("step.failed") { nil } }
      .to raise_error(TaskerCore::ConfigurationError,
                      "subscribe_to: Deaf has a block, which has no effect: define call(event)")
  end

  describe "with a filter" do
    let(:subscriber) { stub_const("Filtered", Class.new(TaskerCore::Subscriber)) }
    let(:unknown) { TaskerCore::UnknownEventError }

    after { subscriber.unsubscribe }

    it "reject a field that none of the events has" do
      refusal = "filter: \"workflw\" (string) is not a field of step.failed: did you mean `workflow`? the " \
                "fields are task_id, " \
                "task_uuid, namespace, workflow, version, step, attempt, max_attempts, duration_ms, error, " \
                "error.class, error.message, error.code"
      pager = Class.new { def on_step_failed(_) = nil }.new
      expect { subscriber.subscribe_to("step.failed", workflw: "order") }.to raise_error(unknown, refusal)
      expect { events.subscribe("step.failed", workflw: "order") { nil } }.to raise_error(unknown, refusal)
      expect { events.subscribe(pager, workflw: "order") }.to raise_error(unknown, refusal)
      expect { subscriber.subscribe_to("step.failed", error: { cod: 1 }) }
        .to raise_error(unknown, /did you mean `error.code`/)
      subscriber.durable("filtered")
      expect { subscriber.subscribe_to("task.*", step: "pay") }
        .to raise_error(unknown, /"step" \(string\) is not a field of task\.\*/)
      expect([events.subscribed?(pager), subscriber.durable_events]).to eq [false, []]
    end

    it "accept a field that one of the events may have" do
      subscriber.subscribe_to("task.failed", "step.failed", step: "pay")
      subscriber.subscribe_to("shop.packed", parcels: 2)
      listen("*", { parcels: 2 })
      events.publish("shop.packed", { parcels: 1 })
      events.publish("shop.packed", { parcels: 2, number: 7 })
      expect(Timeout.timeout(120) { received.pop }[:number]).to eq 7
    end

    it "match nested fields, and symbols and strings alike" do
      listen("shop.packed",
             { "workflow" => :announcing, error: { code: %i[declined expired] }, parcels: ->(count) { count > 1 } })
      publish = lambda do |**payload|
        events.publish("shop.packed", { workflow: "announcing", error: { code: "declined" }, parcels: 2, **payload })
      end
      [{ workflow: "another" }, { error: { code: "lost" } }, { error: nil }, { parcels: 1 }].each do |fields|
        publish.call(**fields)
      end
      publish.call(number: 1)
      expect(Timeout.timeout(120) { received.pop }[:number]).to eq 1
    end

    it "reject a value that never matches, and a missing event" do
      [/order/, 1..2, String, [/order/], { code: /declined/ }].each do |value|
        expect { subscriber.subscribe_to("step.failed", error: value) }
          .to raise_error(
            TaskerCore::ConfigurationError,
            /\Afilter: error.* can match no payload value: use a value, an array of values, or a lambda/
          )
      end
      expect { subscriber.subscribe_to(workflow: "announcing") }
        .to raise_error(TaskerCore::ConfigurationError,
                        "subscribe_to: Filtered names no event: subscribe_to \"step.failed\"")
    end
  end

  it "reject unknown names and payloads without a JSON form" do
    expect { events.subscribe("step.faild") { nil } }
      .to raise_error(TaskerCore::UnknownEventError, /did you mean `step.failed`/)
    expect { events.publish("shop.paked") }.to raise_error(TaskerCore::UnknownEventError, /did you mean `shop.packed`/)
    expect { Class.new(TaskerCore::StepHandler) { event "step.mine" } }
      .to raise_error(TaskerCore::UnknownEventError, /must not begin with/)
    expect { events.publish("shop.packed", { n: Float::NAN }) }
      .to raise_error(TaskerCore::InputError, /the payload of shop.packed/)
  end

  it "cost nothing without listeners, and match later names" do
    own_events = own
    own_events.publish("order.shipped", {})
    expect(own_events.stats).to include(published: 0)
    listen("order.*", to: own_events)
    own_events.register("order.returned")
    own_events.publish("order.returned", { n: 10**40 })
    expect(received.pop.payload).to eq("n" => 10**40)
    own_events.stop
  end

  it "are dropped oldest first, or block, when listeners are slow" do
    release = Queue.new
    begun = Queue.new
    dropping = own(buffer_capacity: 3, batch_size: 1, flush_interval: 0)
    listen("order.shipped", to: dropping) { |event| (begun << 1) && release.pop && (received << event[:number]) }
    dropping.publish("order.shipped", { number: 0 })
    begun.pop
    (1..5).each { |number| dropping.publish("order.shipped", { number: number }) }
    4.times { release << 1 }
    expect(Array.new(4) { received.pop }).to eq [0, 3, 4, 5]
    expect(dropping.stats).to include(dropped: 2, waiting: 0)
    dropping.stop

    blocking = own(buffer_capacity: 1, batch_size: 1, flush_interval: 0, overflow: "block")
    listen("order.shipped", to: blocking) { |event| (begun << 1) && release.pop && (received << event[:number]) }
    begun.clear
    blocking.publish("order.shipped", { number: 0 })
    begun.pop
    blocking.publish("order.shipped", { number: 1 })
    waiting = Thread.new { blocking.publish("order.shipped", { number: 2 }) }
    eventually { waiting.status == "sleep" }
    3.times { release << 1 }
    expect(Array.new(3) { received.pop }).to eq [0, 1, 2]
    waiting.join
    expect(blocking.stats).to include(dropped: 0)
    blocking.stop
  end

  it "arrive in batches of events.batch_size or after the interval" do
    publisher = TaskerCore::Bridge.event_publisher(
      TaskerCore.config.with(events: { batch_size: 3, flush_interval: "500ms" })
    )
    publisher.set_interests(["workflow.registered"])
    4.times { publisher.publish("workflow.registered", nil, "{}", true) }
    sizes = nil
    expect(elapsed { sizes = Array.new(2) { JSON.parse(publisher.next_batch).size } }).to be >= 0.5
    expect(sizes).to eq [3, 1]
  end

  it "are delivered completely on a stop" do
    stopped = own(flush_interval: "1m", batch_size: 1000)
    listen("order.shipped", to: stopped)
    3.times { |number| stopped.publish("order.shipped", { number: number }) }
    stopped.stop
    expect(received.size).to eq 3
    stopped.publish("order.shipped", {})
    expect(stopped.stats).to include(dropped: 1)
  end

  it "no longer reach unsubscribed listeners" do
    gone = Queue.new
    left = Array.new(5) { events.subscribe("shop.packed") { |event| gone << event } }
    listen("shop.packed")
    left.each { |subscription| events.unsubscribe(subscription) }
    events.publish("shop.packed")
    expect([received.pop.name, gone.size]).to eq ["shop.packed", 0]
  end

  it "continue after their thread was killed" do
    listen("shop.packed") { |event| event[:number] == 1 ? Thread.current.kill : received << event[:number] }
    (1..3).each { |number| events.publish("shop.packed", { number: number }) }
    eventually { received.size == 2 }
  end

  it "stay in the forked child that publishes them" do
    listen("shop.packed")
    heard = in_child_process do
      events.publish("shop.packed", { of: "the child" })
      received.pop[:of]
    end
    expect(heard).to eq "the child"
    events.publish("shop.packed", { of: "the parent" })
    expect(received.pop[:of]).to eq "the parent"
  end

  it "reach ActiveSupport::Notifications when configured" do
    events = []
    notified = own(notifications: true, flush_interval: 0)
    subscriber = ActiveSupport::Notifications.subscribe("order.shipped.tasker_core") do |*arguments|
      events << arguments
    end
    notified.publish("order.shipped", { number: 7 })
    eventually { events.any? }
    expect(events.first[0]).to eq "order.shipped.tasker_core"
    expect(events.first[4]).to include(name: "order.shipped", payload: { "number" => 7 })
    notified.stop
  ensure
    ActiveSupport::Notifications.unsubscribe(subscriber)
  end

  it "are documented with their payloads" do
    document = File.read("#{root}/docs/events.md")
    listen("*")
    names = events.native.resolve("*").grep(/\A(task|step|workflow)\./)
    expect(names.size).to be > 5
    expect(names.reject { |name| document.include?("## #{name}\n") }).to eq []
  end
end
