# frozen_string_literal: true

RSpec.describe TaskerCore::Support::RestartingThread do
  let(:replaced) { Queue.new }

  # @return [Array<Hash>] payloads published for the thread's first deaths
  def deaths(count, &work)
    subscription = ActiveSupport::Notifications.subscribe("thread_replaced.tasker_core") do |*, payload|
      replaced << payload if payload[:thread] == "short-lived"
    end
    thread = described_class.new("short-lived", &work)
    Array.new(count) { Timeout.timeout(120) { replaced.pop } }
  ensure
    ActiveSupport::Notifications.unsubscribe(subscription)
    thread&.stop
  end

  it "replaces a dying thread after growing pauses" do
    published = deaths(5) { raise "no" }
    expect(published.map { |payload| payload[:pause] }).to eq [0, 0.1, 0.2, 0.4, 0.8]
    expect(published.map { |payload| payload[:deaths] }).to eq [1, 2, 3, 4, 5]
    expect(published.map { |payload| payload[:error].message }).to all eq "no"
  end

  it "replaces a long-lived thread without a pause" do
    stub_const("#{described_class}::QUICK_DEATH", 0)
    expect(deaths(3) { Thread.current.kill }.map { |payload| payload.values_at(:pause, :error) }).to eq [[0, nil]] * 3
  end

  it "logs a replaced thread with its pause and its error" do
    out = StringIO.new
    logging = TaskerCore::Logging.new(logger: Logger.new(out), capacity: 10)
    TaskerCore::Logging::Subscriber.new(-> { logging }).thread_replaced({ thread: "tasker-1", deaths: 2, pause: 0.1,
                                                                          error: IOError.new("gone") }, 0)
    expect(out.string)
      .to match(/WARN.*a thread has died and is replaced.*IOError.*gone thread=tasker-1 deaths=2 pause=0.1/)
  end

  it "limits the wait for threads that do not end when killed" do
    gate = Queue.new
    started = Queue.new
    stubborn = Array.new(20) do |number|
      described_class.new("stubborn-#{number}") do
        started << number
        sleep
      ensure
        gate.pop # as an `ensure` of a handler may
      end
    end
    20.times { started.pop }
    expect(elapsed { described_class.stop(stubborn) }).to be_between(1, 10) # one after the other: more than 20
    expect(stubborn).to all be_alive
  ensure
    20.times { gate << true }
  end

  it "stops many idle threads within the patience of one" do
    idle = Array.new(50) { |number| described_class.new("idle-#{number}") { sleep } }
    expect(elapsed { described_class.stop(idle, patience: 0.2) }).to be < 5 # one after the other: more than 10
    expect(idle.map(&:alive?)).to all be false
  end
end
