# frozen_string_literal: true

require "open3"

RSpec.describe TaskerCore::Correlation do
  let(:id) { "01a2079a-97aa-7ca3-8336-d6df7d466282" }
  let(:other) { "01a2079a-97aa-7ca3-8336-000000000000" }

  def current = TaskerCore.correlation_id

  def ruby(script, variables = {})
    output, status = Open3.capture2(variables, RbConfig.ruby, "-I#{root}/lib", "-e",
                                    "require 'bundler/setup'; require 'tasker_core'; #{script}", chdir: root)
    expect(status).to be_success
    output
  end

  it "is current in a block and restored after it" do
    TaskerCore.with_correlation_id(id) do
      expect(current).to eq id
      expect { TaskerCore.with_correlation_id(other) { raise "out of #{current}" } }.to raise_error("out of #{other}")
      expect(current).to eq id
    end
    expect(current).to be_nil
    expect(TaskerCore.with_correlation_id { current }).to match(/\A\h{8}-\h{4}-7\h{3}-/)
    expect(TaskerCore.with_correlation_id(id) { :response }).to eq :response
  end

  it "travels in the configured header" do
    before = TaskerCore.config
    TaskerCore.configure(correlation: { header: "X-Request-Trace" })
    app = TaskerCore::Correlation::RackMiddleware.new(->(_) { [200, { "seen" => current }, []] })
    expect(app.call("HTTP_X_REQUEST_TRACE" => id, "HTTP_X_CORRELATION_ID" => other)[1])
      .to eq("seen" => id, "x-request-trace" => id)
    claim = JSON.parse(File.read("#{root}/spec/fixtures/seam/claim.json"))
    expect(TaskerCore::StepContext.new(claim).http_headers).to eq("X-Request-Trace" => claim.fetch("correlation_id"))
  ensure
    TaskerCore.configure(before)
  end

  it "is inherited by threads and fibers, then independent" do
    TaskerCore.with_correlation_id(id) do
      beginning = Thread::Queue.new
      later = Thread.new { beginning.pop && current }
      inner = Thread.new { TaskerCore.with_correlation_id(other) { Thread.new { current }.value } }.value
      expect(inner).to eq other
      expect(current).to eq id
      expect(Fiber.new { current }.resume).to eq id
      expect(Enumerator.new { |out| out << current }.next).to eq id
      TaskerCore.with_correlation_id(other) { (beginning << true) && later.join }
      expect(later.value).to eq id
    end
    expect(Thread.new { current }.value).to be_nil
    expect(Thread.new(1, two: 2) { |one, two:| [one, two] }.value).to eq [1, 2]
    expect(TaskerCore.with_correlation_id(id) { Thread.new(1, two: 2) { |one, two:| [one, two, current] }.value })
      .to eq [1, 2, id]
  end

  it "belongs to one fiber where Rails isolates fibers" do
    level = ActiveSupport::IsolatedExecutionState.isolation_level
    ActiveSupport::IsolatedExecutionState.isolation_level = :fiber
    waiting = TaskerCore.with_correlation_id(id) { Fiber.new { Fiber.yield(current) && current } }
    TaskerCore.with_correlation_id(other) do
      expect([waiting.resume, current, waiting.resume(true), current]).to eq [id, other, id, other]
    end
  ensure
    ActiveSupport::IsolatedExecutionState.isolation_level = level
  end

  it "passes to forks, and to other processes by environment" do
    TaskerCore.with_correlation_id(id) do
      expect(in_child_process { current }).to eq id
      expect(described_class.environment).to eq("TASKER_CORRELATION_ID" => id)
      @output = ruby("puts TaskerCore.correlation_id, Thread.new { TaskerCore.correlation_id }.value; " \
                     "TaskerCore.with_correlation_id('#{other}') { puts TaskerCore.correlation_id }",
                     described_class.environment)
    end
    expect(@output.lines(chomp: true)).to eq [id, id, other]
    expect(ruby("p TaskerCore.correlation_id")).to eq "nil\n"
    expect(described_class.environment).to eq({})
  end

  it "keeps a UUID and derives one from any other text" do
    adoptions = []
    listening = ActiveSupport::Notifications.subscribe("correlation_id_adopted.tasker_core") do |event|
      adoptions << event.payload
    end
    expect(described_class.adopt(" #{id.upcase} ")).to eq id
    expect(described_class.adopt("00000000-0000-0000-0000-000000000000")).to eq "00000000-0000-0000-0000-000000000000"
    expect(adoptions).to be_empty
    adopted = ["order-42", "order-43", "\xff\0", "a" * 100_000, id.delete("-")].map do |text|
      described_class.adopt(text)
    end
    expect(adopted).to all match(/\A\h{8}-\h{4}-5\h{3}-[89ab]\h{3}-\h{12}\z/)
    expect(adopted.uniq.size).to eq 5
    expect(adopted.first).to eq Digest::UUID.uuid_v5(Digest::UUID::URL_NAMESPACE, "correlation-id:order-42")
    expect(described_class.adopt("order-42")).to eq adopted.first
    expect(adoptions.first).to eq(id: adopted.first, text: "order-42")
  ensure
    ActiveSupport::Notifications.unsubscribe(listening)
  end

  it "applies to tasks created in its block or in a handler" do
    TaskerCore.with_correlation_id(id) do
      expect(Diamond.create!(n: 1)).to have_attributes(correlation_id: id, parent_correlation_id: nil)
      expect(Diamond.set(correlation_id: other).create!(n: 1))
        .to have_attributes(correlation_id: other, parent_correlation_id: nil)
    end
    claim = JSON.parse(File.read("#{root}/spec/fixtures/seam/claim.json"))
    TaskerCore::Correlation::Context.from_claim(claim).within do
      expect(Diamond.create!(n: 1)).to have_attributes(correlation_id: id, parent_correlation_id: id)
      expect(Diamond.set(correlation_id: other).create!(n: 1))
        .to have_attributes(correlation_id: other, parent_correlation_id: id)
      TaskerCore.with_correlation_id(other) do
        expect(Diamond.create_all!([{ n: 1 }, { n: 2 }]))
          .to all have_attributes(correlation_id: other, parent_correlation_id: id)
      end
    end
    expect(Diamond.create!(n: 1).correlation_id).to match(/\A\h{8}-\h{4}-7/)
  end
end
