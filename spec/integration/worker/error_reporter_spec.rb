# frozen_string_literal: true

# Reports to `Rails.error`, and so to the application's error tracker.
RSpec.describe TaskerCore::Worker::ErrorReporter do
  let(:reports) { Queue.new }
  let(:tracker) do
    received = reports
    made = Struct.new(:error, :handled, :severity, :context, :source)
    Class.new do
      define_method(:report) do |error, handled:, severity:, context:, source: nil|
        received << made.new(error, handled, severity, context, source)
      end
    end.new
  end

  before { Rails.error.subscribe(tracker) }
  after { Rails.error.unsubscribe(tracker) }

  # @return [Array<Report>] reports about a task, after it ended and all events were delivered
  def reported(task)
    eventually { task.reload.state == "error" && !reports.empty? }
    ended = Queue.new
    marker = TaskerCore.events.subscribe("shop.packed", { of: "the end" }) { ended << true }
    TaskerCore.events.publish("shop.packed", { of: "the end" })
    Timeout.timeout(120) { ended.pop }
    Array.new(reports.size) { reports.pop }.select { |report| report.context[:task_id] == task.id }
  ensure
    TaskerCore.events.unsubscribe(marker) if marker
  end

  def impatient(kind)
    task = Impatient.create!(kind: kind)
    with_worker { reported(task) }
  end

  it "reports a final failure once, with its context" do
    id = SecureRandom.uuid
    task = Announcing.set(correlation_id: id).create!
    found = with_worker { reported(task) }
    expect(found.size).to eq 1
    expect(found.first).to have_attributes(handled: false, severity: :error, source: "tasker_core")
    expect(found.first.error)
      .to be_a(TaskerCore::PermanentError).and have_attributes(message: "declined", backtrace: include(/announcing.rb/))
    expect(found.first.context)
      .to include(task_id: task.id, task_uuid: task.uuid, workflow: "announcing", step: "pay", attempt: 1,
                  max_attempts: 1, correlation_id: id)
  end

  it "reports a retried failure as handled, the last as unhandled" do
    task = Flaky.create!(failures: 3)
    found = with_worker do
      [1, 2].each do |attempts|
        eventually { task.step("trial").then { |step| step.state == "waiting" && step.attempts == attempts } }
        sweep_after(1000)
      end
      reported(task)
    end
    expect(found.map { |report| [report.error.message, report.handled, report.severity, report.context[:attempt]] })
      .to eq [["failure 1", true, :warning, 1], ["failure 2", true, :warning, 2], ["failure 3", false, :error, 3]]
  end

  { "hang" => [TaskerCore::TimeoutError, /time limit/], "exit" => [SystemExit, /exit/],
    "text" => [TaskerCore::PermanentError, /returned "not a hash"/],
    "large" => [TaskerCore::AttemptFailedError, /payload_bytes|bytes/],
    "null byte" => [TaskerCore::AttemptFailedError, /null/i] }.each do |kind, (type, message)|
    it "reports a failed step once if its handler ends with: #{kind}" do
      found = impatient(kind)
      expect(found.map { |report| [report.error.class, report.handled] }).to eq [[type, false]]
      expect(found.first.error.message).to match message
      expect(reports).to be_empty
    end
  end

  it "reports a lost attempt in the process that detected it" do
    stub_const("Vanishing", Class.new(TaskerCore::Workflow) do
      define_method(:only) { |_| Process.kill("KILL", Process.pid) && sleep }
      step :only, retryable: false
    end)
    task = Vanishing.create!
    Process.wait(fork { TaskerCore::Worker.new.start && sleep })
    found = with_worker { reported(task) }
    expect(found.map { |report| [report.error.class, report.handled] }).to eq [[TaskerCore::AttemptFailedError, false]]
    expect(found.first.error.message).to match(/lost|process/i)
  end

  it "includes the context that the handler set in Rails.error" do
    stub_const("Contextual", Class.new(TaskerCore::Workflow) do
      define_method(:only) do |_|
        Rails.error.set_context(customer: 7)
        raise "no"
      end
      step :only, retryable: false
    end)
    task = Contextual.create!
    expect(with_worker { reported(task) }.map { |report| report.context[:customer] }).to eq [7]
  end

  it "reports failed listeners, subscribers and threads as handled" do
    event = TaskerCore::Event.new("id" => "1", "name" => "order.shipped", "occurred_at" => 0, "payload" => {})
    {
      "listener_failed" => { event: event },
      "delivery_failed" => { event: event, subscription: "ledger", failures: 1, retry_after: 1 },
      "delivery_poll_failed" => { subscription: "ledger" }, "notify_failed" => {},
      "thread_replaced" => { thread: "tasker-1", deaths: 1, pause: 0 }
    }.each do |name, payload|
      TaskerCore::Instrumentation.instrument(name, error: IOError.new(name), **payload)
      expect(reports.pop)
        .to have_attributes(error: have_attributes(message: name), handled: true, source: "tasker_core",
                            context: include(trouble: name))
    end
    TaskerCore::Instrumentation.instrument("thread_replaced", thread: "tasker-1", deaths: 1, pause: 0, error: nil)
    expect(reports).to be_empty
  end

  describe "without a database" do
    subject { described_class.new(reporter: -> { ActiveSupport::ErrorReporter.new(tracker) }).listen(events) }

    let(:events) do
      Class.new do
        def subscribe(name, &listener) = (@listeners ||= {})[name] = listener

        def publish(event) = @listeners.fetch(event.name).call(event)
      end.new
    end

    def attempt(number) = { "task_uuid" => "task #{number}", "step" => "only", "attempt" => 1 }

    # @return [Class] of the error that is reported when the attempt's step has failed
    def reported_for(number)
      events.publish(TaskerCore::Event.new("id" => "1", "name" => "step.failed", "occurred_at" => 0,
                                           "payload" => attempt(number)))
      reports.pop.error.class
    end

    it "forgets an exception after its report" do
      subject.remember(attempt(1), IOError.new)
      expect(Array.new(2) { reported_for(1) }).to eq [IOError, TaskerCore::AttemptFailedError]
    end

    it "forgets the oldest exceptions when no decision comes" do
      1001.times { |number| subject.remember(attempt(number), IOError.new) }
      expect([0, 1, 1000].map { |number| reported_for(number) })
        .to eq [TaskerCore::AttemptFailedError, IOError, IOError]
    end
  end
end
