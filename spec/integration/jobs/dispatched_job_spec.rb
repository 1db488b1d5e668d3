# frozen_string_literal: true

# A step that runs the application's job, in a job of the application's queue.
RSpec.describe "A job step with dispatch: :active_job" do
  let(:workflows) { TaskerCore::Workflows::Registry.new }

  before do
    stub_const("CountJob", Class.new(ActiveJob::Base) do
      retry_on KeyError, wait: 0, attempts: 3
      def perform(number) = executions == 1 ? raise(KeyError, "not yet") : { n: number, thread: Thread.current.name }
    end)
    stub_const("Counting", Class.new(TaskerCore::Workflow) do
      workflow_name "counting"
      dispatch :active_job
      step :count, job: "CountJob", arguments: ["$.input.n"], queue: "counts"
    end)
    allow(TaskerCore).to receive(:workflows).and_return(workflows)
    workflows.declare("Counting")
    @adapter = TaskerCore::StepJob.queue_adapter
    TaskerCore::StepJob.queue_adapter = :async
  end

  after do
    TaskerCore::StepJob.queue_adapter.try(:shutdown)
    TaskerCore::Dispatch::JobProcess.stop
    TaskerCore::StepJob.queue_adapter = @adapter
  end

  it "is performed by the queue's job, and retried by the step" do
    with_worker do
      task = Counting.create!(n: 3).wait(timeout: 60)
      expect(task.results["count"]).to match("n" => 3, "thread" => /worker-\d+\z/)
      expect(task.attempts.order(:token).map { [_1.outcome, _1.error&.fetch("class")] })
        .to eq [%w[failed KeyError], ["completed", nil]]
    end
  end
end
