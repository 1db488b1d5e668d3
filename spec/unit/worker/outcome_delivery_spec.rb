# frozen_string_literal: true

RSpec.describe TaskerCore::Worker, "when an outcome cannot be delivered" do
  let(:runner) do
    Class.new do
      def run(claim) = yield("outcome of #{claim}")
      def abandoned_outcome(_claim, message) = message
    end.new
  end

  def run_claim(orchestrator)
    worker = described_class.allocate
    worker.instance_variable_set(:@orchestrator, orchestrator)
    worker.send(:run_claim, runner, "a claim")
  end

  it "fails the attempt with the error of the delivery" do
    delivered = []
    orchestrator = Object.new
    orchestrator.define_singleton_method(:finish) do |outcome|
      raise ArgumentError, "no JSON" if outcome.start_with?("outcome")

      delivered << outcome
    end
    expect { run_claim(orchestrator) }.to raise_error(ArgumentError, "no JSON")
    expect(delivered).to eq ["the outcome could not be delivered: no JSON"]
  end
end
