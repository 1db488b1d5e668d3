# frozen_string_literal: true

require "tasker_core/testing"

# Existing jobs as steps: run by the testing kit, with the SQL functions and step runner of a worker.
RSpec.describe TaskerCore::Worker::JobHandler do
  include RSpec::Rails::RailsExampleGroup
  include ActiveJob::TestHelper
  include TaskerCore::Testing

  let(:calls) { [] }

  before do
    log = calls
    %w[Timeout1 Timeout2].each { |name| stub_const(name, Class.new(StandardError)) }
    stub_const("Journal", Module.new { define_singleton_method(:<<) { |entry| log << entry } })
  end

  after { expect(enqueued_jobs).to eq [] }

  # The job's class; `body` is evaluated in it.
  def job(parent = ActiveJob::Base, &body)
    stub_const("TrialJob", Class.new(parent, &body))
  end

  # Creates a task of a workflow whose last step is the job.
  def create(input: {}, **options)
    stub_const("Trial", Class.new(TaskerCore::Workflow) do
      workflow_name "trial"
      step :first
      step :between, depends_on: :first
      step :only, depends_on: :between, job: "TrialJob", **options
      def first(_context) = { parcels: [{ weight: 3, note: nil }] }
      def between(_context) = nil
    end)
    Trial.create!(**input)
  end

  def perform(**options)
    task = create(**options)
    perform_tasks
    task
  end

  # Performs the attempts up to the next wait, and those after it, until the task has ended.
  def perform_all(**options)
    task = create(**options)
    20.times do
      performed = perform_tasks
      break if performed.empty?

      tasker_travel 1.hour
    end
    task
  end

  def error(task) = task.step(:only).error.slice("class", "message", "code")

  describe "arguments" do
    it "passes values of paths, and other strings as they are" do
      job { def perform(*arguments) = { got: arguments } }
      task = perform(input: { order_id: 42, deep: { list: [{ "a.b" => "x" }] }, empty: nil }, config: { account: 7 },
                     arguments: ["$.input.order_id", "$.results.first.parcels[0].weight", "$.results.between",
                                 "$.config", "$.config.account", '$.input.deep.list[0]["a.b"]', "$.input.empty",
                                 "$.results.first.parcels[0].note", "$$.input", "$$$.x", "$5", "$$", "text", 1.5,
                                 ["$.input.order_id", [true]]])
      expect(task).to have_completed_step(:only).with_result(
        got: [42, 3, {}, { account: 7 }, 7, "x", nil, nil, "$.input", "$$.x", "$5", "$$", "text", 1.5, [42, [true]]]
      )
    end

    it "passes objects with indifferent access, which the job may change" do
      job do
        def perform(options, list, text)
          list.first[:b] += 1
          text << "!"
          { symbol: options[:a][:b], string: options["a"]["b"], written: options.dig(:w, :x), list: list, text: text }
        end
      end
      task = perform(input: { a: { b: 1 }, list: [{ b: 1 }], text: "t" },
                     arguments: [{ a: "$.input.a", w: { x: 2 } }, "$.input.list", "$.input.text"])
      expect(task).to have_completed_step(:only)
        .with_result(symbol: 1, string: 1, written: 2, list: [{ b: 2 }], text: "t!")
    end

    it "passes the last object, or the whole one, as keywords to a perform that has some" do
      job { def perform(order = nil, currency:, **others) = { order: order, currency: currency, others: others } }
      task = perform(input: { id: 4 },
                     arguments: [{ id: "$.input.id" }, { currency: "EUR", note: { a: "$.input.id" } }])
      expect(task).to have_completed_step(:only)
        .with_result(order: { id: 4 }, currency: "EUR", others: { note: { a: 4 } })
      task = perform(input: { id: 4 }, arguments: { currency: "$.input.id" })
      expect(task).to have_completed_step(:only).with_result(order: nil, currency: 4, others: {})
    end

    it "passes the record of a global id only where the workflow asks for it" do
      task_record = Diamond.create!(n: 1)
      perform_tasks
      TaskerCore::Task.include(GlobalID::Identification) unless TaskerCore::Task.include?(GlobalID::Identification)
      job { def perform(record, text) = { record: record.id, type: record.class.name, text: text } }
      gid = task_record.to_global_id.to_s
      task = perform(input: { task: gid }, arguments: [{ "$global_id": "$.input.task" }, "$.input.task"])
      expect(task).to have_completed_step(:only)
        .with_result(record: task_record.id, type: "TaskerCore::Task", text: gid)
      task = perform(input: { task: "42" }, arguments: [{ "$global_id": "$.input.task" }, 1])
      expect(error(task)).to eq("class" => "TaskerCore::PermanentError", "code" => "invalid_argument", "message" =>
        "the argument $.input.task of TrialJob must be a global id, such as gid://shop/Order/42")
    end

    it "lets discard_on decide about a record that is gone" do
      TaskerCore::Task.include(GlobalID::Identification) unless TaskerCore::Task.include?(GlobalID::Identification)
      job do
        discard_on(ActiveJob::DeserializationError) { |_, error| Journal << error.cause.class }
        def perform(record) = record
      end
      task = perform(arguments: [{ "$global_id": "gid://dummy/TaskerCore::Task/9999999999" }])
      expect(task).to have_failed_step(:only).with_error(ActiveJob::DeserializationError).with_code("job_discarded")
      expect(calls).to eq [ActiveRecord::RecordNotFound]
    end

    it "never builds what an input describes in Active Job's own notation" do
      job { def perform(value) = value }
      [{ "_aj_serialized" => "ActiveJob::Serializers::ModuleSerializer", "value" => "Kernel" },
       { "_aj_globalid" => "gid://dummy/TaskerCore::Task/1" }].each do |value|
        task = perform(input: { a: [value] }, arguments: ["$.input.a"])
        expect(task).to have_failed_step(:only).with_code("invalid_argument").after_attempts(1)
      end
    end

    it "fails permanently and names a path that finds nothing" do
      job { def perform(*) = Journal << :performed }
      %w[$.input.note $.input.list[1] $.input.list.a $.input.text.a $.results.first.parcel
         $.results.first.parcels[0].weight.x].each do |path|
        task = perform(input: { list: [0], text: "t" }, arguments: [1, [path]])
        expect(error(task)).to eq("class" => "TaskerCore::PermanentError", "code" => "missing_argument",
                                  "message" => "the argument #{path} of TrialJob finds nothing")
      end
      expect(calls).to eq []
    end
  end

  describe "result" do
    it "is what perform returns" do
      { { paid: true } => { paid: true }, nil => {}, true => { value: true }, 7 => { value: 7 },
        "text" => { value: "text" }, [1, { a: 2 }] => { value: [1, { a: 2 }] },
        BigDecimal("1.5") => { value: "1.5" } }.each do |value, result|
        job { define_method(:perform) { value } }
        expect(perform).to have_completed_step(:only).with_result(result)
      end
    end

    it "must be JSON" do
      job { def perform = Object.new }
      task = perform
      expect(error(task)).to match("class" => "TaskerCore::PermanentError", "code" => "invalid_result", "message" =>
        /\ATrialJob#perform returned #<Object.*> \(Object\): end it with a Hash, another JSON value or nil\z/)
      job { def perform = [Float::NAN] }
      expect(perform).to have_failed_step(:only).with_code("invalid_result").after_attempts(1)
    end
  end

  it "runs within the job's callbacks, with an id that all its attempts share" do
    job do
      before_perform { Journal << :before }
      around_perform do |job, perform|
        Journal << [:around, job.arguments, job.queue_name, job.executions]
        perform.call
      end
      after_perform { |job| Journal << [:after, job.job_id] }
      retry_on Timeout1
      def perform(_id)
        Journal << [:perform, job_id]
        raise Timeout1 if executions == 1

        { executions: executions }
      end
    end
    task = perform_all(input: { id: 1 }, arguments: ["$.input.id"], queue: "mail")
    expect(task).to have_completed_step(:only).with_result(executions: 2)
    ids = calls.grep(Array).filter_map { |name, id| id if %i[perform after].include?(name) }
    expect(ids.uniq).to contain_exactly(/\A\h{8}-\h{4}-5\h{3}-\h{4}-\h{12}\z/)
    expect(calls.map { |call| call.is_a?(Array) && call.first != :around ? call.first : call }).to eq(
      [:before, [:around, [1], "mail", 1], :perform, :before, [:around, [1], "mail", 2], :perform, :after]
    )
  end

  it "fails permanently if a callback keeps perform from running" do
    [-> { before_perform { throw :abort } }, -> { around_perform { nil } }].each do |callback|
      job do
        class_exec(&callback)
        def perform = Journal << :performed
      end
      expect(error(perform)).to eq("class" => "TaskerCore::PermanentError", "code" => "job_not_performed",
                                   "message" => "the callbacks of TrialJob prevented perform")
    end
    expect(calls).to eq []
  end

  it "leaves an error without a declaration to the step's policy" do
    job { def perform = raise(Timeout1, "busy") }
    task = perform(retry: { max_attempts: 2, base: 60, jitter: 0, backoff: :fixed })
    expect(task).to have_waiting_step(:only).with_error("busy").after_attempts(1)
    expect(task.step(:only).run_at).to be_within(10).of(60.seconds.from_now)
    job { def perform = raise(TaskerCore::PermanentError.new("no", code: "broke")) }
    expect(perform).to have_failed_step(:only).with_code("broke").after_attempts(1)
  end

  describe "retry_on" do
    it "retries after its wait, with the original error" do
      job do
        retry_on Timeout1, wait: 100, attempts: 3, jitter: 0
        def perform = raise(Timeout1, "busy")
      end
      task = perform
      expect(task).to have_waiting_step(:only).with_error("busy").after_attempts(1)
      expect(error(task)).to eq("class" => "Timeout1", "message" => "busy", "code" => nil)
      expect(task.step(:only).run_at).to be_within(10).of(100.seconds.from_now)
    end

    it "passes its executions to a wait that depends on them" do
      job do
        retry_on Timeout1, wait: ->(executions) { (Journal << executions) && 1 }, attempts: 4
        def perform = raise(Timeout1)
      end
      perform_all(retry: { max_attempts: 9 })
      expect(calls).to eq [1, 2, 3]
    end

    it "fails permanently when its attempts are used up" do
      job do
        retry_on Timeout1, attempts: 2
        def perform = raise(Timeout1, "busy")
      end
      task = perform_all(retry: { max_attempts: 9 })
      expect(task).to have_failed_step(:only).with_error("busy").with_code("job_retry_stopped").after_attempts(2)
    end

    it "calls its block when its attempts are used up, or the step's" do
      job do
        retry_on(Timeout1, attempts: 3) { |job, error| Journal << [job.executions, error.message] }
        def perform = raise(Timeout1, "busy")
      end
      [[9, 3], [2, 2]].each do |most, attempts|
        task = perform_all(retry: { max_attempts: most })
        expect(task).to have_failed_step(:only).with_code("job_retry_stopped").after_attempts(attempts)
        expect(calls).to eq [[attempts, "busy"]]
        calls.clear
      end
    end

    it "retries without a limit of its own up to the step's" do
      job do
        retry_on Timeout1, wait: :polynomially_longer, attempts: :unlimited
        def perform = raise(Timeout1, "busy")
      end
      task = perform_all(retry: { max_attempts: 8 })
      expect(task).to have_failed_step(:only).with_error("busy").after_attempts(8)
    end

    it "counts attempts per declaration since the last retry" do
      job do
        retry_on Timeout1, attempts: 3
        retry_on Timeout2, ArgumentError, attempts: 2
        def perform = raise([nil, Timeout1, ArgumentError, Timeout1, Timeout2][executions])
      end
      task = perform_all(retry: { max_attempts: 9 })
      expect(task).to have_failed_step(:only).with_error(Timeout2).with_code("job_retry_stopped").after_attempts(4)
      task.step(:only).retry!(reason: "the trial", by: "test")
      10.times { perform_tasks.any? && tasker_travel(1.hour) }
      expect(task).to have_failed_step(:only).with_error(Timeout2).after_attempts(4)
    end

    it "retries the error's cause, as Active Job does" do
      job do
        retry_on Timeout2, wait: 50, jitter: 0
        def perform
          raise Timeout2, "cause"
        rescue Timeout2
          raise Timeout1, "effect"
        end
      end
      expect(perform).to have_waiting_step(:only).with_error(Timeout2).after_attempts(1)
    end
  end

  it "fails permanently with discard_on, and calls its block" do
    job do
      discard_on(Timeout1) { |job, error| Journal << [job.class.name, error.message] }
      after_discard { |_, error| Journal << error.message }
      def perform = raise(Timeout1, "gone")
    end
    task = perform
    expect(task).to have_failed_step(:only).with_error("gone").with_code("job_discarded").after_attempts(1)
    expect(error(task)["class"]).to eq "Timeout1"
    expect(calls).to eq [%w[TrialJob gone], "gone"]
  end

  it "retries if the block of discard_on fails" do
    job do
      discard_on(Timeout1) { raise "the block" }
      def perform = raise(Timeout1, "gone")
    end
    expect(perform).to have_waiting_step(:only).with_error("the block").after_attempts(1)
  end

  it "completes when rescue_from handles the error" do
    job do
      rescue_from(Timeout1) { |error| Journal << error.message }
      def perform = raise(Timeout1, "known")
    end
    expect(perform).to have_completed_step(:only).with_result({})
    expect(calls).to eq ["known"]
  end

  describe "retry_job" do
    it "retries the step when perform has ended" do
      job do
        def perform
          retry_job(wait: 30)
          Journal << :after
          { done: true }
        end
      end
      task = perform
      expect(task).to have_waiting_step(:only).with_error("TrialJob called retry_job").after_attempts(1)
      expect(task.step(:only).run_at).to be_within(10).of(30.seconds.from_now)
      expect(calls).to eq [:after]
    end

    it "waits until a time, or as the step's policy says" do
      { { wait_until: 70.seconds.from_now } => 70, { queue: :low } => 40 }.each do |options, seconds|
        job { rescue_from(Timeout1) { retry_job(**options) } and define_method(:perform) { raise Timeout1, "busy" } }
        task = perform(retry: { base: 40, jitter: 0 })
        expect(task).to have_waiting_step(:only).with_error("busy")
        expect(task.step(:only).run_at).to be_within(10).of(seconds.seconds.from_now)
      end
    end
  end

  describe "with ActiveJob::Continuable", if: Rails.gem_version >= Gem::Version.new("8.1.a") do
    it "continues in the same attempt with an isolated step" do
      job do
        include ActiveJob::Continuable

        def perform(id, note:)
          step(:one) { Journal << [:one, resumptions] }
          step(:two, isolated: true) { Journal << [:two, resumptions, executions, id, note] }
          { done: true }
        end
      end
      task = perform(input: { id: 7 }, arguments: ["$.input.id", { note: "x" }])
      expect(task).to have_completed_step(:only).with_result(done: true).after_attempts(1)
      expect(calls).to eq [[:one, 0], [:two, 1, 1, 7, "x"]]
    end

    it "runs its steps again when the step is retried" do
      job do
        include ActiveJob::Continuable

        def perform
          step(:one) { Journal << :one }
          step(:two) { raise Timeout1, "busy" if executions == 1 }
          nil
        end
      end
      task = perform
      expect(task).to have_waiting_step(:only).with_error(Timeout1).after_attempts(1)
      tasker_travel 1.minute
      perform_tasks
      expect(task).to have_completed_step(:only)
      expect(calls).to eq %i[one one]
    end
  end

  it "is shown in the workflow's graph, and with the step" do
    job { def perform = nil }
    task = perform
    expect(TaskerCore::Graph.of_workflow(Trial).to_text).to end_with "    · only ← between (job TrialJob)\n"
    graph = TaskerCore::Graph.of_version(task.workflow_version)
    expect(graph.to_mermaid).to include 'step2["only<br/>job TrialJob"]'
    expect(graph.to_svg).to include ">job TrialJob</text>"
    expect(graph.to_h[:nodes].last).to include(note: "job TrialJob")
    expect(task.step(:only).handler).to eq "TrialJob.perform_now"
    out = StringIO.new
    command = ["show", task.id.to_s, "only", "--require", "#{root}/spec/dummy/config/environment.rb"]
    TaskerCore::CLI.new(out: out, err: out).run(command)
    expect(out.string).to include "\n  handler TrialJob.perform_now\n"
  end

  it "lets the job enqueue others" do
    job { def perform = RelayJob.perform_later("x") && nil }
    perform
    expect(enqueued_jobs.size).to eq 1
    clear_enqueued_jobs
  end

  it "runs in a worker, which keeps the history of its attempts" do
    job do
      retry_on Timeout1, wait: 0, attempts: 3
      def perform(id) = executions < 3 ? raise(Timeout1, "busy") : { id: id, thread: Thread.current.name }
    end
    task = create(input: { id: 5 }, arguments: ["$.input.id"])
    with_worker { eventually { task.reload.state == "complete" } }
    expect(task).to have_completed_step(:only).with_result(include("id" => 5, "thread" => /\Atasker-\d/))
    expect(task).to have_completed_step(:only).after_attempts(3)
    expect(task.attempts.order(:token).map { [_1.outcome, _1.error&.fetch("class")] }.last(3))
      .to eq [%w[failed Timeout1], %w[failed Timeout1], ["completed", nil]]
  end

  it "reports the original exception to the test" do
    job do
      retry_on Timeout1
      def perform = raise(Timeout1, "busy")
    end
    create
    expect(perform_tasks.last.exception).to be_a(Timeout1)
  end
end
