# frozen_string_literal: true

RSpec.describe TaskerCore::Worker, "when an outcome cannot be delivered" do
  # Hands out one claim, and rejects the first outcome.
  let(:orchestrator) do
    Class.new do
      attr_reader :delivered

      def initialize(claim)
        @claims = Queue.new << claim
        @delivered = Queue.new
        @outcomes = 0
      end

      def next_step = @claims.pop

      def finish(outcome)
        @outcomes += 1
        raise ArgumentError, "no JSON" if @outcomes == 1

        @delivered << outcome
      end

      def stop(_timeout) = @claims.close

      def next_jobs = nil
    end.new(File.read("#{root}/spec/fixtures/seam/claim.json"))
  end

  it "fails the attempt with the error of the delivery" do
    allow(TaskerCore::Bridge).to receive(:start_orchestrator).and_return(orchestrator)
    outcome = with_worker(threads: 1) { JSON.parse(Timeout.timeout(120) { orchestrator.delivered.pop }) }
    expect(outcome)
      .to include("token" => 7, "outcome" => "failed", "retryable" => true,
                  "error" => include("message" => "the outcome could not be delivered: no JSON"))
  end
end
