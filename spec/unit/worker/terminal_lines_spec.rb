# frozen_string_literal: true

# What a worker shows on a terminal: its first line, a line for each step in development, and process titles.
RSpec.describe "A worker's terminal" do
  describe TaskerCore::Worker::StartupMessage do
    def line(**database)
      configuration = TaskerCore::Configuration.new({ execution: { queues: %w[mail default], processes: 2,
                                                                   threads: 3 } }, variables: {})
      described_class.new(configuration, database: database).to_s
    end

    it "shows version, database, queues, processes and threads" do
      expect(line(database: "shop", host: "db.internal", password: "hidden"))
        .to eq "tasker_core #{TaskerCore::VERSION}: database shop on db.internal, queues mail, default, 2 " \
               "processes of 3 threads"
      expect(line).to include "database of the default address, queues"
    end

    it "prints no part of an address that may hold a secret" do
      expect(line(database: "host=a password=hidden", host: "b"))
        .to include("database of the default address on b,").and(satisfy { |text| !text.include?("hidden") })
      expect(line(database: "postgresql://ada:hidden@a/shop")).not_to include "hidden"
      expect(line(database: "shop", host: "a?password=hidden"))
        .to include("database shop,").and(satisfy { |text| !text.include?("hidden") })
    end
  end

  describe TaskerCore::Worker::ProcessTitle do
    it "names an application whose class has no module" do
      stub_const("Trial", Class.new)
      allow(Rails).to receive(:application).and_return(Trial.new)
      expect(described_class.application).to eq "trial"
    end

    it "names part, application and state, updated on change only" do
      titles = []
      process = Class.new { define_singleton_method(:setproctitle) { |title| titles << title } }
      title = described_class.new("worker 0", process: process)
      [", 3 running", ", 3 running", ", 3 running, draining"].each { |state| title.show(state) }
      expect(titles).to eq ["tasker: worker 0 dummy, 3 running", "tasker: worker 0 dummy, 3 running, draining"]
    end
  end

  describe TaskerCore::Worker::AttemptPrinter do
    let(:claim) { JSON.parse(File.read("#{root}/spec/fixtures/seam/claim.json")) }

    def line(**attempt) = described_class.new({ claim: claim, **attempt }, 0.0123).to_s

    it "shows how an attempt ended and how long it took" do
      failure = { class: "IOError", message: "no \e[2Jbus\nat all" }
      expect(line(outcome: :completed))
        .to eq "order_fulfillment 12 reserve_stock: done in 12 ms (attempt 1 of #{claim['max_attempts']})"
      expect(line(outcome: :failed, failure: failure, retryable: true, last_attempt: true))
        .to include "reserve_stock: failed: IOError: no \\u001b[2Jbus … in 12 ms"
      expect(line(outcome: :failed, failure: failure, retryable: false)).to include ": failed: "
      expect(line(outcome: :failed, failure: failure, retryable: true, last_attempt: false))
        .to include ": failed, will be retried: "
      expect(line(outcome: :released, explanation: "no Ship is defined"))
        .to include "reserve_stock: released: no Ship is defined (attempt 1 of"
      expect(line).to include ": abandoned in "
      expect(described_class.new({ claim: claim, outcome: :completed }, 61.25).to_s).to include "in 61.3 s"
    end

    it "is enabled in development when the log goes elsewhere" do
      expect(described_class).not_to be_enabled
      allow(Rails).to receive(:env).and_return(ActiveSupport::EnvironmentInquirer.new("development"))
      expect(described_class).to be_enabled
      allow(TaskerCore).to receive(:logger).and_return(ActiveSupport::Logger.new($stdout))
      expect(described_class).not_to be_enabled
    end

    it "writes a line for each attempt" do
      out = StringIO.new
      subscription = described_class.attach(out: out)
      TaskerCore::Instrumentation.instrument("perform_step", claim: claim) do |facts|
        facts.update(outcome: :completed, result: "{}")
      end
      expect(out.string).to start_with "order_fulfillment 12 reserve_stock: done in"
    ensure
      ActiveSupport::Notifications.unsubscribe(subscription)
    end
  end
end
