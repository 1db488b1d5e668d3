# frozen_string_literal: true

# Steps that run as jobs, with Active Job's own adapters; spec/integration/queues has the real queues.
RSpec.describe TaskerCore::Dispatch do
  let(:workflows) { TaskerCore::Workflows::Registry.new }
  let(:dispatched) do
    stub_const("Dispatched", Class.new(TaskerCore::Workflow) do
      namespace "test"
      workflow_name "dispatched"
      dispatch :active_job
      step :first, handler: "FirstOfLine", queue: "urgent", priority: -2
      step :second, depends_on: :first, handler: "SecondOfLine", retry: { max_attempts: 2, backoff: "none" }
      step :last, depends_on: :second, handler: "FirstOfLine", dispatch: :worker
    end)
  end

  before do
    stub_const("FirstOfLine", Class.new(TaskerCore::StepHandler) do
      def call(_) = { thread: Thread.current.name }
    end)
    stub_const("SecondOfLine", Class.new(TaskerCore::StepHandler) do
      def call(context) = context.attempt == 1 ? raise("not yet") : { after: context.results["first"] }
    end)
    allow(TaskerCore).to receive(:workflows).and_return(workflows)
    dispatched
    workflows.declare("Dispatched")
    @adapter = TaskerCore::StepJob.queue_adapter
    TaskerCore::StepJob.queue_adapter = :async
  end

  after do
    TaskerCore::StepJob.queue_adapter.try(:shutdown)
    described_class::JobProcess.stop
    TaskerCore::StepJob.queue_adapter = @adapter
  end

  def processes
    ActiveRecord::Base.connection.select_rows("select name, idle_dispatcher is not null from tasker_processes")
  end

  # An adapter that passes the jobs of each batch to the block.
  def queue(&block)
    stub_const("TestQueueAdapter", Class.new do
      define_method(:enqueue_all) do |jobs|
        block.call(jobs)
        jobs.each { |job| job.successfully_enqueued = true }.size
      end

      def enqueue(job) = raise("not in a batch: #{job.inspect}")

      def enqueue_at(job, _) = enqueue(job)
    end)
    TaskerCore::StepJob.queue_adapter = TestQueueAdapter.new
  end

  it "runs steps as jobs, with retries, beside a step of a worker" do
    with_worker do
      task = dispatched.create!
      expect(task.wait(timeout: 60).state).to eq "complete"
      expect(task.steps.map { |step| [step.name, step.state, step.attempts] })
        .to eq [["first", "complete", 1], ["second", "complete", 2], ["last", "complete", 1]]
      threads = task.results.values_at("first", "last").map { |result| result["thread"] }
      expect(threads).to match [/worker-\d+\z/, /\Atasker-\d/]
      expect(processes).to contain_exactly(["test", true], ["jobs", false])
    end
  end

  it "runs steps as jobs that no longer declare it" do
    task = dispatched.create!
    allow(TaskerCore).to receive(:workflows).and_return(TaskerCore::Workflows::Registry.new)
    host = TaskerCore::Support::HostApplication
    allow(host).to receive(:current).and_return(host.new(nil)) # which does not reload code
    with_worker do
      expect(task.wait(timeout: 60).results["first"]["thread"]).to match(/worker-\d+\z/)
    end
  end

  it "performs a job once, and ignores it afterwards" do
    logged = []
    ActiveSupport::Notifications.subscribed(->(*, payload) { logged << payload[:claim] }, "job_ignored.tasker_core") do
      enqueued = Queue.new
      queue { |jobs| jobs.each { |job| enqueued << job } }
      with_worker do
        task = dispatched.create!
        job = Timeout.timeout(60) { enqueued.pop }
        expect([job.queue_name, job.priority, job.arguments.last])
          .to eq ["urgent", -2, { "task" => task.uuid, "workflow" => "test.dispatched", "step" => "first" }]
        expect(eventually { task.step("first").then { |step| step if step.dispatch == "enqueued" } }).to be_awaits_job
        enqueued_for = /first has been enqueued as a job in the queue urgent for .*, and no process has started it/
        eventually { enqueued_for.match?(TaskerCore::Diagnosis.new(task).summary) }
        2.times { job.perform_now }
        eventually { task.step("first").state == "complete" }
        expect(logged).to eq [job.arguments.first]
        expect(task.step("first").attempts).to eq 1
      end
    end
  end

  it "keeps a step waiting, with the error, while the queue is away" do
    queue { raise IOError, "the queue is away\nLINE 1: INSERT" }
    with_worker(discovery: { unknown_handler_delay: "1h" }) do
      task = dispatched.create!
      step = eventually { task.step("first").then { |first| first if first.state == "waiting" } }
      expect([step.waiting_reason, step.attempts, step.last_error.values_at("class", "message")])
        .to eq ["not_enqueued", 0, ["IOError", "the queue is away\nLINE 1: INSERT"]]
      expect(TaskerCore::Diagnosis.new(task).to_s)
        .to match(/first waits .*: the application's job queue did not accept its job.*IOError: the queue is away/m)
      finding = TaskerCore::Doctor.new.findings.find { |one| one.check == "jobs" }
      expect(finding.to_s).to match(/^warning: jobs: .* accept the jobs of 1 step: IOError: the queue is away …$/)
    end
  end

  it "releases a step when its queue's process ends, and records that" do
    stub_const("QueueShutdown", Class.new(Interrupt))
    stub_const("FirstOfLine", Class.new(TaskerCore::StepHandler) { def call(_) = raise(QueueShutdown) })
    queue { |jobs| jobs.each(&:perform_now) }
    with_worker do
      task = dispatched.create!
      eventually { TaskerCore::Dispatch::JobProcess.current.health[:released] >= 1 }
      expect(task.step("first")).to have_attributes(attempts: be <= 1, last_error: nil)
      stub_const("FirstOfLine", Class.new(TaskerCore::StepHandler) { def call(_) = {} })
      eventually { task.step("first").state == "complete" }
      expect(task.step("first").attempts).to eq 1
      expect(task.attempts.where(position: 0).order(:token).pluck(:outcome).uniq).to eq %w[released completed]
    end
  end

  it "refuses adapters that lose jobs in production, when a worker starts" do
    allow(TaskerCore::Support::HostApplication).to receive(:local?).and_return(false)
    expect { with_worker { nil } }
      .to raise_error(TaskerCore::ConfigurationError,
                      /`dispatch: active_job` cannot be dispatched: the adapter async loses jobs .*: set config/)
    err = StringIO.new
    command = ["work", "--require", "#{root}/spec/dummy/config/environment.rb"]
    expect(TaskerCore::CLI.new(out: StringIO.new, err: err).run(command)).to eq 2
    expect(err.string).to start_with "tasker: steps with `dispatch: active_job` cannot be dispatched"
    finding = TaskerCore::Doctor.new.findings.find { |one| one.check == "jobs" }
    expect(finding).to have_attributes(severity: "error", explanation: /the adapter async loses jobs/)
  end
end
