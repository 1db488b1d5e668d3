# frozen_string_literal: true

RSpec.describe TaskerCore::Worker::StepRunner do
  let(:claim) { JSON.parse(File.read("#{root}/spec/fixtures/seam/claim.json")) }
  let(:watchdog) { TaskerCore::Worker::Watchdog.new(grace: 30) }
  let(:runner) do
    described_class.new(handlers: TaskerCore::Worker::HandlerRegistry.new(reloading: true), contexts: contexts,
                        watchdog: watchdog)
  end
  let(:contexts) do
    systems = TaskerCore.config.with(systems: { warehouse: { base_url: "https://warehouse.example" } }).systems
    source = instance_double(TaskerCore::Native::Orchestrator, ancestor_results: '{"results":{},"names":[]}')
    allow(source).to receive(:revoked?) { |token| token == 8 }
    TaskerCore::Worker::ContextBuilder.new(source, systems: systems)
  end

  def outcome(overrides = {}, &body)
    stub_const("Body", Class.new(TaskerCore::StepHandler) { define_method(:call, &body) })
    JSON.parse(runner.run(JSON.generate(claim.merge("handler" => "Body", **overrides))))
  end

  it "produces the outcomes of the fixtures" do
    fixture = ->(name) { JSON.parse(File.read("#{root}/spec/fixtures/seam/outcome_#{name}.json")) }
    big = 123_456_789_012_345_678_901_234_567_890
    expect(outcome { |_| { parcels: 2, big: big } }).to eq fixture["completed"]
    failed = outcome { |_| raise TaskerCore::RetryableError.new("too many requests", retry_after: 30) }
    expect(failed.merge("error" => failed["error"].merge("backtrace" => ["order.rb:7"]))).to eq fixture["failed"]
    expect(JSON.parse(runner.run(JSON.generate(claim.merge("handler" => "Nowhere"))))).to eq fixture["released"]
  end

  it "turns every exception into a failure" do
    {
      -> { raise "no" } => ["RuntimeError", true],
      -> { raise TaskerCore::PermanentError.new("no") } => ["TaskerCore::PermanentError", false],
      -> { raise NotImplementedError, "no" } => ["NotImplementedError", true],
      -> { exit 3 } => ["SystemExit", true],
      -> { def deep = deep.deep; deep } => ["SystemStackError", true],
      -> { throw :nowhere } => ["UncaughtThrowError", true]
    }.each do |body, (name, retryable)|
      failed = outcome { |_| body.call }
      expect(failed).to include("outcome" => "failed", "retryable" => retryable)
      expect(failed["error"]["class"]).to eq name
    end
  end

  it "fails a step permanently on a programming error" do
    stub_const("Mistaken", Class.new { def call = {} })
    {
      ->(context) { context.results["resrve"] } => "TaskerCore::UnknownStepError",
      ->(context) { context.publish("order.shiped") } => "TaskerCore::UnknownEventError",
      ->(_) { Payment::Nowhere } => "NameError",
      ->(_) { eval("def (") } => "SyntaxError", # rubocop:disable Style/EvalWithLocation
      ->(_) { require "no/such/file" } => "LoadError"
    }.each do |body, name|
      stub_const("Payment", Module.new)
      failed = outcome { |context| body.call(context) }
      expect(failed)
        .to include("outcome" => "failed", "retryable" => false, "error" => include("code" => "programming_error"))
      expect(failed["error"]["class"]).to eq name
    end
    wrong = JSON.parse(runner.run(JSON.generate(claim.merge("handler" => "Mistaken"))))
    expect(wrong)
      .to include("retryable" => false, "error" => include("class" => "ArgumentError", "code" => "programming_error"))
  end

  it "retries ambiguous errors that may pass" do
    [->(_) { nil.upcase }, ->(_) { Integer("x") }, ->(_) { [].first(1, 2) }, ->(_) { undefined_word }].each do |body|
      expect(outcome { |context| body.call(context) }).to include("outcome" => "failed", "retryable" => true)
    end
  end

  describe "with code reloading" do
    let(:host) { instance_double(TaskerCore::Support::HostApplication, reloading?: true) }
    let(:runner) do
      described_class.new(handlers: TaskerCore::Worker::HandlerRegistry.new(reloading: true), host: host,
                          contexts: contexts, watchdog: watchdog)
    end
    let(:released) { { "token" => 7, "outcome" => "released", "reason" => "not_loaded" } }

    it "releases the step without an attempt if the reload fails" do
      [Zeitwerk::Error.new("no root"), SyntaxError.new("no end"), NameError.new("uninitialized")].each do |error|
        allow(host).to receive(:run).and_raise(error)
        expect(outcome { |_| {} }).to eq released
      end
    end

    it "explains in the terminal why a step was released" do
      allow(host).to receive(:run).and_raise(SyntaxError, "ship.rb:3: no end\n  def (")
      out = StringIO.new
      subscription = TaskerCore::Worker::AttemptPrinter.attach(out: out)
      outcome { |_| {} }
      allow(host).to receive(:run).and_yield
      runner.run(JSON.generate(claim.merge("handler" => "Missing")))
      expect(out.string.lines).to match [/: released: the code cannot be loaded: SyntaxError: ship.rb:3: no end … \(/,
                                         /: released: no Missing is defined \(attempt/]
    ensure
      ActiveSupport::Notifications.unsubscribe(subscription)
    end

    it "releases the step if its handler's file cannot be loaded" do
      allow(host).to receive(:run).and_yield
      handlers = instance_double(TaskerCore::Worker::HandlerRegistry)
      allow(handlers).to receive(:find).and_raise(SyntaxError, "no end")
      broken = described_class.new(handlers: handlers, host: host, contexts: contexts, watchdog: watchdog)
      expect(JSON.parse(broken.run(JSON.generate(claim)))).to eq released
    end

    it "counts exceptions of the handler itself" do
      allow(host).to receive(:run).and_yield
      expect(outcome { |_| raise "no" }).to include("outcome" => "failed", "retryable" => true)
    end

    it "counts a failing host hook without reloading" do
      allow(host).to receive(:reloading?).and_return(false)
      allow(host).to receive(:run).and_raise("no connection")
      expect(outcome { |_| {} }).to include("outcome" => "failed")
    end
  end

  it "fails a step permanently if its result cannot be stored" do
    loop_in_itself = {}.tap { |hash| hash[:self] = hash }
    [42, [1], { n: Float::NAN }, { n: Float::INFINITY }, { text: "\xff" }, loop_in_itself].each do |result|
      expect(outcome { |_| result })
        .to include("outcome" => "failed", "retryable" => false, "error" => include("code" => "invalid_result"))
    end
  end

  it "treats nil as an empty result and converts Ruby values" do
    expect(outcome { |_| nil }["result"]).to eq({})
    expect(outcome { |_| { at: Time.utc(2026, 1, 2), word: :x, wait: 2.minutes, sum: BigDecimal("1.5") } }["result"])
      .to eq("at" => "2026-01-02T00:00:00.000Z", "word" => "x", "wait" => 120.0, "sum" => "1.5")
  end

  it "ends an attempt at its time limit" do
    failed = outcome("timeout_ms" => 50) { |_| Thread.stop }
    expect(failed["error"])
      .to include("class" => "TaskerCore::TimeoutError", "message" => "the time limit of 0.05 s has passed")
    expect(failed["retryable"]).to be true
  end

  it "removes from messages what PostgreSQL cannot store" do
    expect(outcome { |_| raise "a\0b\xff" }["error"]["message"]).to eq "ab\u{fffd}"
  end

  it "passes the step's external system, or explains its absence" do
    expect(outcome { |context| { at: context.system.base_url } }["result"]).to eq("at" => "https://warehouse.example")
    expect(outcome("system" => nil) { |context| { system: context.system } }["result"]).to eq("system" => nil)
    expect(outcome("system" => "nowhere") { |context| { at: context.system.base_url } }["error"])
      .to include("class" => "TaskerCore::ConfigurationError",
                  "message" => /uses the system nowhere, which .*: set systems.nowhere.base_url/)
  end

  it "reports to the handler that its claim was revoked" do
    expect(outcome("token" => 8) { |context| { cancelled: context.cancelled? } }["result"]).to eq("cancelled" => true)
  end
end
