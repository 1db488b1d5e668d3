# frozen_string_literal: true

RSpec.describe TaskerCore::Logging::Subscriber do
  let(:out) { StringIO.new }
  let(:claim) { JSON.parse(File.read("#{root}/spec/fixtures/seam/claim.json")) }
  let(:level) { :debug }

  around do |example|
    logger = TaskerCore.logger
    TaskerCore.logger = ActiveSupport::Logger.new(out, formatter: TaskerCore::JsonFormatter.new, level: level)
    TaskerCore.log_as(filter: [:card])
    example.run
  ensure
    TaskerCore.log_as(filter: Rails.application.config.filter_parameters)
    TaskerCore.logger = logger
  end

  def logged = out.string.lines.map { |line| JSON.parse(line) }.reject { |line| line["message"].include?("[1m") }

  def runner
    handlers = TaskerCore::Worker::HandlerRegistry.new(reloading: true)
    TaskerCore::Worker::StepRunner.new(handlers: handlers, contexts: contexts,
                                       watchdog: TaskerCore::Worker::Watchdog.new(grace: 30))
  end

  def contexts = TaskerCore::Worker::ContextBuilder.new(instance_double(TaskerCore::Native::Orchestrator))

  def perform(overrides = {}, &body)
    stub_const("Body", Class.new(TaskerCore::StepHandler) { define_method(:call, &body) })
    runner.run(JSON.generate(claim.merge("handler" => "Body", **overrides)))
  end

  def notify(name, **payload) = TaskerCore::Instrumentation.instrument(name, payload)

  it "logs how an attempt ended, with its step and duration" do
    perform { |_| { n: 1, card: "4111 1111" } }
    perform { |_| raise TaskerCore::RetryableError.new("busy", retry_after: 30) }
    perform("attempt" => 5, "max_attempts" => 5) { |_| raise "no" }
    perform { |_| raise TaskerCore::PermanentError.new("declined", code: "card_declined") }
    runner.run(JSON.generate(claim.merge("handler" => "Nowhere")))
    fields = %w[level message error.class error.message retry_after code]
    expect(logged.map { |line| line.values_at(*fields) }).to eq [
      ["info", "step completed", nil, nil, nil, nil],
      ["warn", "step failed and is retried", "TaskerCore::RetryableError", "busy", 30.0, nil],
      ["error", "step failed permanently", "RuntimeError", "no", nil, nil],
      ["error", "step failed permanently", "TaskerCore::PermanentError", "declined", nil, "card_declined"],
      ["warn", "step released: its handler is not defined in this process", nil, nil, nil, nil]
    ]
    expect(logged)
      .to all include("correlation_id" => claim["correlation_id"], "task_id" => 12, "workflow" => "order_fulfillment",
                      "step" => "reserve_stock")
    expect(logged.first).to include("duration_ms" => (be >= 0), "result" => { "n" => 1, "card" => "[FILTERED]" })
    expect(logged.last).to include("handler" => "Nowhere")
  end

  it "writes a duration in milliseconds" do
    facts = { task_ids: [1], workflow: "w", existing: 0, inputs: [] }
    ActiveSupport::Notifications.publish("create_tasks.tasker_core", 10.0, 10.25, "an id", facts)
    expect(logged.last).to include("message" => "task created", "duration_ms" => 250.0)
  end

  it "shortens long results and messages" do
    perform { |_| { text: "x" * 20_000 } }
    perform { |_| raise "x" * 20_000 }
    expect(logged.map { |line| line["result"] || line["error.message"] }).to match ["20011 bytes", /\Ax{1997}\.{3}\z/]
    expect(out.string.lines.map(&:size)).to all be < 10_000
  end

  it "logs an attempt whose thread was killed" do
    Thread.new { perform { |_| Thread.current.kill } }.join
    expect(logged.map { |line| line.values_at("level", "message") })
      .to eq [["warn", "step abandoned: the thread of its handler was killed"]]
  end

  it "logs created tasks with filtered inputs" do
    Diamond.create!(n: 1)
    one = logged.last
    Relay.create_all!([{ card: "4111 1111" }, { card: "4222 2222" }])
    expect(one)
      .to include("level" => "info", "message" => "task created", "workflow" => "diamond",
                  "task_id" => TaskerCore::Task.first.id, "input" => [{ "n" => 1 }])
    expect(logged.last)
      .to include("message" => "tasks created", "tasks" => 2, "existing" => 0,
                  "input" => [{ "card" => "[FILTERED]" }] * 2)
    expect(out.string).not_to match(/4111 1111|4222 2222/)
  end

  it "logs every other event" do
    error = TaskerCore::DatabaseError.new("gone")
    context = TaskerCore::Correlation::Context.from_claim(claim)
    TaskerCore::Correlation::Context.new(correlation_id: "01a2079a-97aa-7ca3-8336-000000000000").within do
      notify("outcome_rejected", error: error)
      notify("notify_failed", error: error)
      notify("thread_killed", thread: Thread.new { nil }.tap { _1.name = "tasker-3" }, context: context)
      notify("correlation_id_adopted", id: claim["correlation_id"], text: "order\n\xff#{'4' * 300}".b)
      notify("log_lines_dropped", count: 7, capacity: 10)
      event = { "id" => "1", "name" => "order.shipped", "occurred_at" => 0, "payload" => {} }
      notify("listener_failed", event: TaskerCore::Event.new(event), error: error)
      notify("delivery_failed", subscription: "ledger", event: TaskerCore::Event.new(event), error: error, failures: 2,
                                retry_after: 1.5)
      notify("delivery_lost", subscription: "ledger", error: error)
      notify("delivery_poll_failed", subscription: "ledger", error: error)
      notify("request_failed", error: error)
      notify("listener_methods_ignored", listener: "Pager", methods: %i[on_step_faild on_task_ended])
      notify("not_loaded", error: error)
      notify("job_ignored", claim: { "token" => 7, "attempt" => 1 })
      notify("job_given_up", claim: { "token" => 7, "attempt" => 1 }, error: error)
      notify("undefined_handler", workflow: "shop", step: "charge", handler: "ChargeCrd", nearest: "ChargeCard")
    end
    expect(logged.map { |line| line.values_at("level", "message") }).to eq [
      ["warn", "an outcome was rejected"], ["warn", "workers were not notified: they find the steps by polling"],
      ["error", "a thread was killed: its handler has exceeded its time limit"],
      ["info", "a correlation id was converted to a UUID"],
      ["warn", "log lines were dropped: the buffer was full"],
      ["error", "a listener raised an error"], ["error", "an event was not delivered and is retried"],
      ["warn", "a delivery was rolled back and is repeated"], ["warn", "no events delivered: the fetch is retried"],
      ["error", "a request to the engine failed"], ["warn", "a listener has methods that match no event"],
      ["error", "step released: the application's code cannot be loaded"],
      ["warn", "a job was ignored: its step was started before, or is dispatched again"],
      ["error", "a job was given up: its step is dispatched again after dispatch.start_timeout"],
      ["warn", "a step's handler is not defined in this process"]
    ]
    expect(logged.last)
      .to include("workflow" => "shop", "step" => "charge", "handler" => "ChargeCrd", "nearest" => "ChargeCard")
    expect(logged[0, 2]).to all include("error.class" => "TaskerCore::DatabaseError", "error.message" => "gone")
    expect(logged[2]).to include("thread" => "tasker-3", "task_id" => 12, "correlation_id" => claim["correlation_id"])
    expect(logged[3])
      .to include("given" => start_with("order\n\u{fffd}444").and(have_attributes(size: 200)),
                  "correlation_id" => claim["correlation_id"])
    expect(logged[4]).to include("dropped" => 7, "capacity" => 10)
    expect(logged[5]).to include("event" => "order.shipped", "error.message" => "gone")
    expect(logged[6]).to include("event" => "order.shipped", "event_id" => "1", "failures" => 2, "retry_after" => 1.5)
    expect(logged[12, 2]).to all include("token" => 7, "attempt" => 1)
    expect(logged[10]).to include("listener" => "Pager", "methods" => "on_step_faild, on_task_ended")
    expect(logged[6, 3]).to all include("subscription" => "ledger", "error.message" => "gone")
  end

  it "handles each event, and only it words a line" do
    known = %i[create_tasks perform_step unknown_handler outcome_rejected thread_killed notify_failed
               correlation_id_adopted log_lines_dropped listener_failed delivery_failed delivery_lost
               delivery_poll_failed request_failed thread_replaced listener_methods_ignored not_loaded
               undefined_handler job_ignored job_given_up]
    expect(described_class.public_instance_methods(false)).to match_array known
    sources = Dir["#{root}/{lib,app}/**/*.rb"].map { |path| File.read(path) }
    instrumented = sources.flat_map { |source| source.scan(/instrument\("(\w+)"/) }.flatten.uniq
    expect(instrumented.map(&:to_sym)).to match_array known
    wording = /\b(logger|logging)\.(debug|info|warn|error|fatal|add|write)\b/
    worded = Dir["#{root}/{lib,app}/**/*.rb"].select { |path| File.foreach(path).any?(wording) }
    expect(worded.map { |path| File.basename(path) }).to eq ["logging.rb"] # which takes any words
  end

  it "shares its events and survives a subscriber that raises" do
    received = []
    listeners = [->(event) { received << event.payload[:outcome] }, ->(_) { raise "a listener's fault" }]
    event = "perform_step.tasker_core"
    listening = listeners.map { |listener| ActiveSupport::Notifications.subscribe(event, listener) }
    outcome = nil
    expect { outcome = perform { |_| { n: 1 } } }
      .to output(/a subscriber of perform_step.tasker_core raised RuntimeError: a listener's fault/).to_stderr
    expect(JSON.parse(outcome)).to include("outcome" => "completed")
    expect(received).to eq [:completed]
    failing = lambda do
      TaskerCore::Instrumentation.instrument("perform_step", claim: claim) { raise ArgumentError, "the block's own" }
    end
    expect { expect(&failing).to raise_error(ArgumentError, "the block's own") }.to output.to_stderr
  ensure
    listening.each { |subscriber| ActiveSupport::Notifications.unsubscribe(subscriber) }
  end

  it "keeps the outcome when a logger raises" do
    TaskerCore.logger = ActiveSupport::Logger.new(out).tap { |logger| def logger.add(*) = raise(IOError, "disk full") }
    outcome = nil
    expect { outcome = perform { |_| { n: 1 } } }
      .to output(/perform_step could not be logged: IOError: disk full/).to_stderr
    expect(JSON.parse(outcome)).to include("outcome" => "completed")
  end

  describe "filtering" do
    it "covers Active Record's lines, inspection and errors" do
      before = ActiveRecord::Base.logger
      ActiveRecord::Base.logger = TaskerCore.logger
      Relay.create!(card: "4111")
      expect(out.string).to match(/create_tasks.*bytes of binary data/)
      context = TaskerCore::StepContext.new(claim.merge("input" => { "card" => "4111", "n" => 1 }))
      expect(context.inspect).to include("task=12", "reserve_stock", "[FILTERED]").and not_include("4111")
      failed = JSON.parse(perform { |_| [{ "card" => "4111" }] })
      expect(failed["error"]["message"]).to include("[FILTERED]").and not_include("4111")
      [{ card: 4111 }, { cards: { card: "4111" } }].each do |input|
        expect { Relay.create!(**input) }.to raise_error(TaskerCore::InputError) { |error|
          expect([error.message, error.facts, error.cause].inspect).to include("card").and not_include("4111")
        }
      end
    ensure
      ActiveRecord::Base.logger = before
    end
  end

  RSpec::Matchers.define_negated_matcher :not_include, :include
end
