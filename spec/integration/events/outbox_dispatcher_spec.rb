# frozen_string_literal: true

# Durable subscribers miss no event, whatever fails in the middle.
RSpec.describe TaskerCore::Events::OutboxDispatcher do
  let(:connection) { ActiveRecord::Base.connection }
  let(:quick) { { subscriptions: { poll_interval: 0.05 }, retry: { base: 0.01, jitter: 0 } } }
  let(:course) { %w[task.created shop.packed step.completed step.failed task.failed] }

  before do
    load "#{root}/spec/dummy/ledger.rb"
    Ledger.create_table
    with_worker(**quick) { nil } # with which the subscription begins
  end

  after do
    Ledger.unsubscribe
    Ledger.faults.clear
    connection.execute("drop table ledger_lines")
  end

  def lines = Ledger::Line.order(:id).to_a

  def names(task) = lines.select { |line| line.task_id == task.id }.map(&:name)

  def subscription
    connection.select_all("select * from tasker_core_v1.subscription_health()").to_a.find { _1["name"] == "ledger" }
  end

  def all_delivered = eventually { subscription["waiting"].zero? }

  def tasker(*arguments)
    out = StringIO.new
    err = StringIO.new
    status = TaskerCore::CLI.new(out: out, err: err).run([*arguments, "--require", "#{root}/spec/dummy/ledger.rb"])
    [status, out.string, err.string]
  end

  it "delivers the same events as listeners get, in task order" do
    published = Queue.new
    here = TaskerCore.events.subscribe("*", { workflow: "announcing" }) { |event| published << event }
    tasks = Array.new(3) { Announcing.set(correlation_id: SecureRandom.uuid).create! }
    with_worker(**quick) { eventually { lines.size == 15 } }
    expect(tasks.map { |task| names(task) }).to all eq course
    expect(lines.map { |line| line.facts["correlation_id"] }.uniq).to match_array tasks.map(&:correlation_id)
    received = Array.new(published.size) { published.pop }.select { |event| course.include?(event.name) }
    facts = ->(name, payload) { [name, JSON.parse(JSON.generate(payload))] }
    expect(lines.map { |line| facts.call(line.name, line.facts["payload"]) })
      .to match_array(received.map { |event| facts.call(event.name, event.payload) })
    expect(lines.map(&:event_id).uniq.size).to eq 15
    expect(connection.select_value("select count(*) from tasker_outbox_events"))
      .to eq(0), "what is delivered is removed"
  ensure
    TaskerCore.events.unsubscribe(here)
  end

  it "delivers commits of processes without a worker" do
    task = nil
    with_worker(**quick) do
      ActiveRecord::Base.transaction do
        Announcing.create!
        TaskerCore.events.publish("shop.packed", { workflow: "announcing", of: "undone" })
        raise ActiveRecord::Rollback
      end
      ActiveRecord::Base.transaction do
        task = Announcing.set(wait_until: 1.hour.from_now).create!
        TaskerCore.events.publish("shop.packed", { workflow: "announcing", task_id: task.id, of: "done" })
        TaskerCore.events.publish("shop.packed", { workflow: "another" })
      end
      TaskerCore::Postgres::Functions.call(connection, :cancel_task, task.id, "why", "ada")
      eventually { names(task).size == 5 }
    end
    expect(names(task)).to eq %w[task.created shop.packed task.cancelled step.cancelled step.cancelled]
    expect(lines.size).to eq 5
  end

  it "redelivers an event after an error before the next one" do
    log = StringIO.new
    logger = TaskerCore.logger
    TaskerCore.logger = Logger.new(log)
    attempts = Queue.new
    fault = lambda do |event|
      attempts << event.id
      case attempts.size
      when 1 then raise "of its own making"
      when 2 then throw :away
      when 3 then raise TaskerCore::RetryableError.new("later", retry_after: 0.02)
      when 4 then Thread.current.kill
      end
    end
    5.times { Ledger.faults << fault }
    task = Announcing.create!
    with_worker(**quick) { eventually { names(task).size == 5 } }
    expect(Array.new(5) { attempts.pop }.uniq.size).to eq 1
    expect(names(task)).to eq course
    failures = log.string.lines.grep(/event was not delivered and is retried.*event=task.created.*subscription=ledger/)
    expect(failures.size).to eq 3
    expect(failures[0])
      .to match(/error.class=RuntimeError error.message="of its own making".*failures=1 retry_after=0.01 /)
    expect(failures[2]).to match(/failures=3 retry_after=0.02/)
    expect(subscription).to include("failures" => 0, "last_error" => nil)
  ensure
    TaskerCore.logger = logger
  end

  it "continues after a kill without lost or doubled effects" do
    Dir.mktmpdir do |directory|
      mark = File.join(directory, "died")
      tasks = Array.new(20) { Announcing.create! }
      with_worker_processes(processes: 2, variables: { "DUMMY_LEDGER" => mark }) do
        tasks.each { |task| task.wait(timeout: 120) }
        eventually { subscription["waiting"].zero? && File.exist?(mark) }
      end
      # Attempts that were lost with the process are tried again.
      again = /(shop.packed )?(step.retry_scheduled )/
      expect(tasks.map { |task| names(task).join(" ") })
        .to all match(/\Atask.created #{again}*shop.packed step.completed step.failed task.failed\z/)
      expect(lines.map(&:event_id).uniq.size).to eq lines.size
      expect(File.read(mark).to_i).to be_positive
      expect(lines[4].process).not_to eq File.read(mark).to_i
    end
  end

  it "keeps effects exact when a connection breaks" do
    elsewhere = PG.connect(ENV.fetch("DATABASE_URL"))
    terminated = lambda do |_|
      elsewhere.exec("select pg_terminate_backend(#{Ledger::Line.connection.select_value('select pg_backend_pid()')})")
    end
    renewed = ->(_) { Ledger::Line.connection.reconnect! }
    fine = ->(_) {}
    [fine, terminated, fine, renewed].each { |fault| Ledger.faults << fault }
    tasks = Array.new(3) { Announcing.create! }
    with_worker(**quick) { eventually { lines.size >= 15 && subscription["waiting"].zero? } }
    expect(tasks.map { |task| names(task) }).to all eq course
  ensure
    elsewhere.close
  end

  it "lets operators skip events and drop subscriptions" do
    4.times { Ledger.faults << ->(_) { raise "never" } }
    task = Announcing.create!
    with_worker(subscriptions: { poll_interval: 0.05 }, retry: { base: 3600 }) do
      eventually { subscription["failures"] == 1 }
    end
    Ledger.faults.clear
    expect(tasker("subscriptions", "drop", "ledger", "--reason", "x"))
      .to eq [2, "", "tasker: subscriptions: --reason is for skip: `tasker subscriptions skip NAME --reason TEXT`\n"]
    status, out, = tasker("subscriptions")
    expect(status).to eq 1
    expect(out)
      .to match(/\Aledger: \d+ events? waiting, the oldest for \d+ s \(shop.packed, .*step.resolved_manually\)\n/)
    expect(out)
      .to include("  the next event has failed 1 time, with RuntimeError: never\n",
                  "tasker subscriptions skip ledger --reason TEXT")
    expect(JSON.parse(tasker("subscriptions", "--json")[1])["subscriptions"].first)
      .to include("name" => "ledger", "failures" => 1, "retry_at" => /\A\d{4}-\d\d-\d\dT[\d:]{8}\.\d{6}Z\z/)
    expect(tasker("subscriptions", "skip", "ledger"))
      .to eq [2, "", "tasker: reason: is blank: give the reason to record with the action\n"]
    status, out, = tasker("subscriptions", "skip", "ledger", "--reason", "cannot be booked")
    expect([status, out]).to match [0, /\Askipped: task.created \{.*"task_id":#{task.id}[,}]/]
    expect(tasker("subscriptions", "skip", "ledger", "--reason", "x")[2])
      .to include "only an event that has failed can be skipped"
    with_worker(**quick) { eventually { names(task).size == 4 } }
    expect(names(task)).to eq course.drop(1)
    expect(tasker("subscriptions").first(2)).to match [0, /\Aledger: no events waiting/]

    Announcing.create!
    expect(tasker("subscriptions", "drop", "ledger"))
      .to eq [0, "dropped: ledger, with 1 undelivered event\n", ""]
    expect(tasker("subscriptions", "drop", "ledger")[2]).to eq "tasker: durable subscription ledger does not exist\n"
    expect(tasker("subscriptions")).to eq [0, "there are no durable subscriptions\n", ""]
    expect(tasker("subscriptions", "pause")).to match [2, "", /pause: unknown action: use skip or drop/]
    expect(tasker("subscriptions", "skip")).to match [2, "", /name the subscription/]
  end

  it "sets the event's correlation id for its subscriber" do
    current = Queue.new
    Ledger.faults << ->(_) { current << TaskerCore.correlation_id }
    id = SecureRandom.uuid
    TaskerCore.with_correlation_id(id) { TaskerCore.events.publish("shop.packed", { workflow: "announcing" }) }
    with_worker(**quick) { all_delivered }
    expect(current.pop).to eq id
  end

  it "polls at subscriptions.poll_interval" do
    asked = []
    nothing = { "events" => [], "pending" => false, "wait_ms" => nil }
    allow(TaskerCore::Postgres::Functions).to receive(:call).and_return(nothing)
    orchestrator = Object.new
    orchestrator.define_singleton_method(:process_id) { 1 }
    [0.011, 0.022].each do |seconds|
      configuration = TaskerCore.config.with(subscriptions: { poll_interval: seconds })
      delivery = TaskerCore::Events::Delivery.new("ledger", configuration: configuration, orchestrator: orchestrator)
      orchestrator.define_singleton_method(:wait_for_progress) do |_, longest|
        asked << longest
        delivery.stop
        0
      end
      delivery.run
    end
    expect(asked).to eq [0.011, 0.022]
  ensure
    RSpec::Mocks.space.proxy_for(TaskerCore::Postgres::Functions).reset
  end

  it "follows the settings for delivery" do
    worker = lambda do |**settings|
      with_worker(**quick, subscriptions: { poll_interval: 0.05, **settings }) { all_delivered }
    end
    together = -> { Ledger::Line.group(:committed_together).count.values.sort.tap { Ledger::Line.delete_all } }
    publish = -> { 4.times { TaskerCore.events.publish("shop.packed", { workflow: "announcing" }) } }
    publish.call
    worker.call(commit_interval: 60)
    expect(together.call).to eq [4]
    publish.call
    worker.call(commit_interval: 0)
    expect(together.call).to eq [1, 1, 1, 1]
    publish.call
    worker.call(commit_interval: 60, batch_size: 3)
    expect(together.call).to eq [1, 3]

    task = Announcing.create!
    with_worker(subscriptions: { deliver: false }) { task.wait(timeout: 120) }
    expect([lines.size, subscription["waiting"]]).to eq [0, 5]
    with_worker(subscriptions: { poll_interval: 600 }) do
      eventually { lines.size == 5 }
      2.times { Announcing.create! }
      eventually { subscription["waiting"].zero? }
    end
  end

  it "keeps one subscription per class and rejects unusable ones" do
    Ledger.unsubscribe
    expect(TaskerCore::Subscriber.durable_subscribers).to eq({})
    load "#{root}/spec/dummy/ledger.rb"
    expect(TaskerCore::Subscriber.durable_subscribers).to eq("ledger" => Ledger)
    expect { Class.new(TaskerCore::Subscriber) { durable } }
      .to raise_error(TaskerCore::ConfigurationError, /a class without a name needs one here/)
    expect { stub_const("Other", Class.new(TaskerCore::Subscriber)).durable("ledger") }
      .to raise_error(TaskerCore::ConfigurationError, /"ledger" is the subscription of Ledger: give Other another name/)
    TaskerCore.events.register("parcel.seen")
    deaf = stub_const("Deaf", Class.new(TaskerCore::Subscriber) do
      subscribe_to "parcel.seen"
      durable "deaf"
    end)
    expect(TaskerCore.events.listeners?("parcel.seen")).to be(false), "it listens no more"
    expect { with_worker { nil } }
      .to raise_error(TaskerCore::UnknownEventError, /declare it with `event "parcel.seen", durable: true`/)
  ensure
    deaf&.unsubscribe
  end

  describe "events that cannot be delivered together" do
    let(:log) { StringIO.new }

    around do |example|
      logger = TaskerCore.logger
      TaskerCore.logger = Logger.new(log)
      example.run
    ensure
      TaskerCore.logger = logger
    end

    # Makes `fetch_events` run another statement first.
    def with_fetches_that(statement)
      arguments = "p_process bigint, p_name text, p_limit integer, p_payloads boolean default true"
      connection.execute("alter function tasker_core_v1.fetch_events rename to fetch_events_before; " \
                         "create function tasker_core_v1.fetch_events(#{arguments}) returns json language plpgsql as " \
                         "$$ begin #{statement} " \
                         "return tasker_core_v1.fetch_events_before(p_process, p_name, p_limit, p_payloads); end $$")
      yield
    ensure
      connection.execute("drop function tasker_core_v1.fetch_events; " \
                         "alter function tasker_core_v1.fetch_events_before rename to fetch_events")
    end

    # The limits of the fetches, in order.
    def limits
      [].tap do |limits|
        allow(TaskerCore::Postgres::Functions).to receive(:call).and_wrap_original do |call, *arguments|
          limits << arguments[4] if arguments[1] == :fetch_events && arguments[5]
          call.call(*arguments)
        end
      end
    end

    def publish(*numbers)
      numbers.each { |number| TaskerCore.events.publish("shop.packed", { workflow: "announcing", n: number }) }
    end

    def delivered = lines.map { |line| line.facts.dig("payload", "n") }

    def failed_to_deliver = log.string.lines.grep(/an event was not delivered and is retried/)

    it "are fetched in halves, and later in full batches again" do
      asked = limits
      publish(*1..6)
      too_much = "if p_limit > 2 and exists (select from tasker_outbox_events where payload->>'n' = '6') then " \
                 "raise exception 'too much' using errcode = '57014'; end if;"
      with_fetches_that(too_much) do
        with_worker(**quick, subscriptions: { poll_interval: 0.05, batch_size: 8 }) do
          eventually { delivered.size == 6 }
          eventually do
            publish(0)
            asked.last == 8
          end
          all_delivered
        end
      end
      expect(asked.first(3)).to eq [8, 4, 2]
      expect(delivered.first(6)).to eq [*1..6]
      expect(log.string)
        .to match(/events not delivered together: fewer are tried .*error.message=".*too much.* events=8 /)
      expect(failed_to_deliver).to eq []
    end

    it "keep the batch size after an unrelated error" do
      asked = limits
      publish(1)
      orchestrator = Object.new
      orchestrator.define_singleton_method(:process_id) { 1 }
      configuration = TaskerCore.config.with(subscriptions: { batch_size: 8 })
      delivery = TaskerCore::Events::Delivery.new("ledger", configuration: configuration, orchestrator: orchestrator)
      delivery.define_singleton_method(:sleep) { |_| stop if asked.size >= 3 }
      with_fetches_that("raise exception 'starting up' using errcode = '57P03';") { delivery.run }
      expect(asked).to eq [8, 8, 8]
      expect(log.string.lines.grep(/no events delivered: the fetch is retried .*starting up/).size).to eq 3
      expect(subscription["failures"]).to eq 0
    end

    # The third of five events cannot be delivered.
    def expect_the_third_to_fail(message)
      third = connection.select_value("select uuid from tasker_outbox_events order by id offset 2 limit 1")
      with_worker(subscriptions: { poll_interval: 0.05 }, retry: { base: 3600 }) do
        eventually { subscription["failures"] == 1 }
      end
      expect(delivered).to eq [1, 2]
      expect(failed_to_deliver).to match [/error.message=".*#{message}.* event=shop.packed event_id=#{third} /]
      expect(JSON.parse(subscription["last_error"])["message"]).to include message
      yield
      with_worker(**quick) { all_delivered }
      expect(delivered).to eq [1, 2, 4, 5]
    end

    it "fail alone if unreadable, and can be skipped" do
      publish(*1..5)
      # A jsonb that is neither an object nor an array, as on a damaged page.
      connection.execute("create cast (bytea as jsonb) without function; " \
                         "update tasker_outbox_events set payload = '\\x00000000'::bytea::jsonb where " \
                         "payload->>'n' = '3'; " \
                         "drop cast (bytea as jsonb)")
      expect_the_third_to_fail("unknown type of jsonb container") do
        skipped = tasker("subscriptions", "skip", "ledger", "--reason", "damaged")
        expect(skipped).to eq [0, "skipped: shop.packed null\n", ""]
      end
    end

    it "fail alone if their effect is rejected at commit" do
      connection.execute("create function refuse() returns trigger language plpgsql as " \
                         "$$ begin raise exception 'not balanced' using errcode = '23514'; end $$; " \
                         "create constraint trigger refuse after insert on ledger_lines " \
                         "deferrable initially deferred " \
                         "for each row when (new.facts->'payload'->>'n' = '3') execute function refuse()")
      publish(*1..5)
      expect_the_third_to_fail("not balanced") do
        tasker("subscriptions", "skip", "ledger", "--reason", "never balanced")
      end
    ensure
      connection.execute("drop function refuse cascade")
    end

    it "fail alone if a callback before the commit raises" do
      callback = ->(line) { raise "not balanced" if line.facts.dig("payload", "n") == 3 }
      Ledger::Line.before_commit(&callback)
      publish(*1..5)
      expect_the_third_to_fail("not balanced") do
        tasker("subscriptions", "skip", "ledger", "--reason", "never balanced")
      end
    ensure
      Ledger::Line.reset_callbacks(:before_commit)
    end

    it "do not fail after an error that followed their commit" do
      callback = ->(line) { raise "too late" if line.facts.dig("payload", "n") == 1 }
      Ledger::Line.after_commit(&callback)
      publish(1, 2)
      with_worker(**quick, subscriptions: { poll_interval: 0.05, batch_size: 1 }) { all_delivered }
      expect(delivered).to eq [1, 2]
      expect(log.string.lines.grep(/no events delivered: the fetch is retried .*too late/).size).to eq 1
      expect(failed_to_deliver).to eq []
    ensure
      Ledger::Line.reset_callbacks(:commit)
    end
  end

  describe "a failed subscription" do
    def subscription_row
      connection.select_one("select failures, retry_at, last_error, process_id from tasker_subscriptions " \
                            "where name = 'ledger'")
    end
    let(:untouched) { { "failures" => 0, "retry_at" => nil, "last_error" => nil, "process_id" => nil } }
    let(:retrying) { JSON.generate(backoff: "fixed", base_ms: 60_000, factor: 1, cap_ms: 60_000, jitter: 0) }

    def sql(...) = TaskerCore::Postgres::Functions.call(connection, ...)

    def register(*events) = sql(:register_subscriptions, JSON.generate([{ name: "ledger", events: events }]))

    # The first fetch sets a mark, and the next one returns the events below it.
    def take = Array.new(2) { sql(:fetch_events, 7, "ledger", 10, true) }.last

    def fail_delivery
      connection.transaction do
        xid = connection.select_value("select pg_current_xact_id()::text::bigint")
        sql(:ack_events, 7, "ledger", xid, 0, JSON.generate(class: "IOError", message: "no"), retrying)
      end
    end

    before do
      register("shop.packed")
      connection.transaction do
        sql(:store_events, JSON.generate([{ name: "shop.packed", correlation_id: nil, payload: {} }]))
      end
      expect(take["events"].size).to eq 1
    end

    it "starts afresh only when its events change" do
      fail_delivery
      register("shop.packed")
      expect(subscription_row).to include("failures" => 1, "retry_at" => be_present, "last_error" => be_present)
      expect(take["wait_ms"]).to be_between(1, 60_000)
      register("order.shipped")
      expect(subscription_row).to eq untouched
    end

    it "accepts no failure from a process with its earlier events" do
      register("order.shipped")
      expect { fail_delivery }.to raise_error(TaskerCore::StaleAttemptError, /no longer delivers its events/)
      expect(subscription_row).to eq untouched
    end

    it "forgets the failure of an event that retention removed" do
      fail_delivery
      connection.execute("delete from tasker_outbox_events")
      connection.execute("update tasker_subscriptions set retry_at = now() - interval '1 second'")
      expect(take).to include("events" => [], "wait_ms" => nil)
      expect(subscription_row).to eq untouched
    end

    it "never returns a wait that has passed" do
      fail_delivery
      connection.execute("update tasker_subscriptions set retry_at = now() - interval '1 second', cursor_id = 1000000")
      expect(sql(:fetch_events, 7, "ledger", 10, true)).to include("wait_ms" => nil)
    end

    it "reports that the event to skip was removed" do
      fail_delivery
      connection.execute("delete from tasker_outbox_events")
      expect(tasker("subscriptions", "skip", "ledger", "--reason", "why").first(2))
        .to eq [0, "nothing to skip: the failed event of ledger has been removed\n"]
      expect(subscription_row).to eq untouched
    end
  end
end
