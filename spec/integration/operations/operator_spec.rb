# frozen_string_literal: true

require "timeout"

# An operator's actions have two entry points: models, on the application's connection, and the extension, on a
# worker's.
RSpec.describe "An operator's actions" do
  def start(**overrides)
    configuration = TaskerCore.config.with({ execution: { queues: ["elsewhere"] } }.deep_merge(overrides))
    TaskerCore::Bridge.start_orchestrator(database: TaskerCore::Postgres::Address.current, configuration: configuration,
                                          name: "operator")
  end

  # Claims nothing, so only the test changes a task.
  let(:orchestrator) { start }
  let(:published) { Queue.new }
  let(:connection) { TaskerCore::ApplicationRecord.connection }
  let(:process) do
    entry = { name: "n", hostname: "h", pid: 1, queues: ["*"], heartbeat_timeout_ms: 600_000, lease_grace_ms: 60_000 }
    call(:register_process, JSON.generate(entry))
  end

  before { @subscription = TaskerCore.events.subscribe("*", &published.method(:<<)) }

  after do
    orchestrator.stop(0.0)
    TaskerCore.events.unsubscribe(@subscription)
  end

  def call(name, *arguments) = TaskerCore::Postgres::Functions.call(connection, name, *arguments)

  def claim(task) = call(:claim_steps, process, ["*"], 100, nil).find { |claim| claim["task_id"] == task.id }

  def finish(task, **outcome)
    key = claim(task).slice("token", "task_id", "position", "attempt")
    call(:finish_steps, process, JSON.generate([{ **key, waited_us: 0, ran_us: 1, **outcome }]), 0)
  end

  # Tasks that an operator can act on.
  def task_with(what)
    case what
    when :a_running_step then Repairable.create!.tap { |task| claim(task) }
    when :a_waiting_step then Repairable.set(wait_until: 1.hour.from_now).create!
    when :a_failed_step
      Repairable.create!.tap do |task|
        finish(task, outcome: "completed", result: { by: "hand" })
        finish(task, outcome: "failed", error: { class: "E", message: "no" }, retryable: false)
      end
    end
  end

  # @return [Array] everything that an action changes in the task and its steps
  def trace(task)
    volatile = %w[task_id run_at ready_at claimed_at deadline token created_at updated_at]
    steps = task.steps.map { |step| step.attributes.except(*volatile) }
    live = connection.select_rows("select position, queue, priority from tasker_ready_steps where task_id = " \
                                  "#{task.id} order by 1")
    [task.state, task.execution_status, task.reload.attributes.slice("active", "remaining"), steps, live,
     task.attempts.map { |attempt| attempt.attributes.slice("position", "attempt", "outcome", "error") },
     task.events.map { |event| event.attributes.slice("position", "action", "actor", "reason") }]
  end

  # @return [Array] name and payload of each event about the task
  def events_of(task)
    TaskerCore.events.publish("shop.packed")
    events = []
    events << Timeout.timeout(120) { published.pop } until events.last&.name == "shop.packed"
    about = events.select { |event| event[:task_id] == task.id }
    expect(about.map(&:correlation_id)).to all(eq task.correlation_id)
    about.map { |event| [event.name, event.payload.except("task_id", "task_uuid")] }
  end

  def by_model(task, position, action, reason, by, result: nil)
    subject = position ? TaskerCore::WorkflowStep.instantiate("task_id" => task.id, "position" => position) : task
    subject.public_send(:"#{action}!", *[result].compact, reason: reason, by: by).state
  end

  def handle(task, position)
    handle = TaskerCore::Worker::TaskHandle.new(orchestrator.task(task.id))
    position ? handle.step(position) : handle
  end

  def by_handle(task, position, action, reason, by, result: nil)
    outcome = handle(task, position).public_send(:"#{action}!", *[result].compact, reason: reason, by: by)
    expect(outcome.keys).to eq %i[state ready_queues]
    outcome[:state]
  end

  def refusal
    yield
  rescue TaskerCore::Error => e
    [e.class, e.message, e.facts]
  end

  actions = [
    [nil, :cancel, :a_running_step, "cancelled", []],
    [nil, :retry, :a_failed_step, "ready", %w[default]],
    [nil, :retry, :a_waiting_step, "ready", %w[default]],
    [nil, :resolve, :a_failed_step, "resolved_manually", []],
    [1, :retry, :a_failed_step, "ready", %w[default]],
    [0, :retry, :a_waiting_step, "ready", %w[default]],
    [0, :release, :a_running_step, "ready", %w[default]],
    [1, :resolve, :a_failed_step, "resolved_manually", %w[default]],
    [1, :complete, :a_failed_step, "complete", %w[default],
     { n: 123_456_789_012_345_678_901_234_567_890, "ü" => "\"it's\"" }],
    [0, :update_result, :a_failed_step, "complete", [], { by: "ada" }]
  ]

  actions.each do |position, action, what, state, queues, result|
    it "act alike: #{action} (#{position ? 'step' : 'task'}, #{what})" do
      one, other = Array.new(2) { task_with(what) }
      events_of(one) # the events so far
      by_model(one, position, action, "it's \"why\"", "ada", result: result)
      events_of_model = events_of(one)
      expect(by_handle(other, position, action, "it's \"why\"", "ada", result: result)).to eq state
      expect(events_of(other)).to eq events_of_model
      expect(trace(other)).to eq trace(one)
      expect(other.events.map { |event| [event.position, event.actor, event.reason] })
        .to eq [[position, "ada", "it's \"why\""]]
      expect(other.steps[position].result).to eq(result.stringify_keys) if result

      outcome = handle(task_with(what), position).public_send(:"#{action}!", *[result].compact, reason: "why", by: :ada)
      expect(outcome).to eq(state: state, ready_queues: queues)
    end

    it "are rejected alike by both: #{action} (#{position ? 'step' : 'task'}, #{what})" do
      possible = task_with(what)
      impossible = task_with(what == :a_failed_step ? :a_waiting_step : :a_failed_step)
      impossible.cancel!(reason: "so that nothing is possible", by: "ada") if impossible.state == "pending"
      task_retry = position.nil? && action == :retry
      impossible.resolve!(reason: "so that nothing is possible", by: "ada") if task_retry && impossible.state == "error"
      nowhere = TaskerCore::Task.new(id: 4_000_000_000_000)
      cases = {
        [impossible, position, action, "why", "ada"] => TaskerCore::TransitionError,
        [nowhere, position, action, "why", "ada"] => TaskerCore::TaskNotFoundError,
        [possible, position, action, " ", "ada"] => TaskerCore::InputError,
        [possible, position, action, nil, "ada"] => TaskerCore::InputError,
        [possible, position, action, "why", ""] => TaskerCore::InputError,
        [possible, position, action, "why", nil] => TaskerCore::InputError
      }
      cases[[possible, 9, action, "why", "ada"]] = TaskerCore::TaskNotFoundError if position
      before = trace(possible)
      events_of(possible)
      cases.each do |arguments, error|
        refused = refusal { by_handle(*arguments, result: result) }
        expect(refused).to eq(refusal { by_model(*arguments, result: result) }), arguments.inspect
        expect(refused.first).to eq(error), arguments.inspect
        expect(refused.last).not_to be_empty
      end
      expect(trace(possible)).to eq before
      expect(events_of(possible)).to eq []
    end
  end

  it "have the aliases of older names" do
    expect(task_with(:a_failed_step).reset_attempts!("why", by: "ada").events.sole.action).to eq "retry"
    expect(task_with(:a_running_step).cancel_with_reason!("why", by: "ada").state).to eq "cancelled"
    expect(task_with(:a_failed_step).step("second").mark_resolved!("why", by: "ada").state).to eq "resolved_manually"
    native = ->(what) { orchestrator.task(task_with(what).id) }
    expect(native.call(:a_failed_step).reset_attempts("why", "ada")[:state]).to eq "ready"
    expect(native.call(:a_running_step).cancel_with_reason("why", "ada")[:state]).to eq "cancelled"
    expect(native.call(:a_failed_step).step(1).mark_resolved("why", "ada")[:state]).to eq "resolved_manually"
  end

  %i[complete update_result].each do |action|
    it "reject a result that is no object: #{action}" do
      task = task_with(:a_failed_step)
      position = action == :complete ? 1 : 0
      before = trace(task)
      [[1], 7, "text", { n: "a\0" }].each do |result|
        refused = refusal { by_handle(task, position, action, "why", "ada", result: result) }
        expect(refused)
          .to eq(refusal { by_model(task, position, action, "why", "ada", result: result) }), result.inspect
        expect(refused.first).to eq TaskerCore::InputError
      end
      expect { orchestrator.task(task.id).step(position).public_send(action, "{", "why", "ada") }
        .to raise_error(TaskerCore::InputError, /result: cannot be read as JSON: EOF/)
      expect(trace(task)).to eq before
    end
  end

  it "reach a running handler and revoke its attempt" do
    task = Watchful.create!
    with_worker(leases: { heartbeat_interval: "50ms" }, discovery: { poll_interval: 600 }) do |worker|
      first = Timeout.timeout(120) { Watchful::RUNNING.pop }
      worker.task(task.id).step(0).release!(reason: "too slow", by: "ada")
      expect(Timeout.timeout(120) { Watchful::TOKENS.pop }).to eq first
      second = Timeout.timeout(120) { Watchful::RUNNING.pop }
      worker.task(task.id).cancel!(reason: "enough", by: "ada")
      expect(Timeout.timeout(120) { Watchful::TOKENS.pop }).to eq second
      eventually { worker.health[:stale] == 2 }
      expect(task.attempts.map { |attempt| [attempt.token, attempt.outcome] })
        .to eq [[first, "released"], [second, "released"]]
    end
    expect([task.state, task.results, outline(task)]).to eq ["cancelled", {}, [["only", "cancelled", 0]]]
    expect(task.events.map { |event| [event.action, event.actor, event.reason] })
      .to eq [["release", "ada", "too slow"], ["cancel", "ada", "enough"]]
  end

  it "wake workers that do not poll" do
    task = Repairable.create!
    with_worker(discovery: { poll_interval: 600 }, maintenance: { sweep_interval: 600 }) do
      eventually { task.ended? }
      Repairable.repaired = true
      orchestrator.task(task.id).retry("the warehouse called", "ada")
      task.wait(timeout: 120)
    end
    expect(task.state).to eq "complete"
  end

  it "let other threads run and finish after an interruption" do
    task = Repairable.create!
    held = Queue.new
    finish = Queue.new
    holder = Thread.new do
      ActiveRecord::Base.connection_pool.with_connection do
        TaskerCore::Task.transaction do
          TaskerCore::Task.lock.find(task.id)
          held << true
          finish.pop
        end
      end
    end
    held.pop
    waiting = Thread.new { orchestrator.task(task.id).cancel("why", "ada") }
    locked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%cancel_task%'"
    eventually { connection.select_value(locked) == 1 }
    expect(waiting.kill.join(8)).to be waiting # before database.lock_timeout ends the statement
    expect(task.state).to eq "pending"
    finish << true
    holder.join
    event = nil
    Timeout.timeout(120) { event = published.pop until event&.name == "task.cancelled" }
    expect([event[:task_id], task.state]).to eq [task.id, "cancelled"]
  ensure
    finish << true
    holder&.join
  end

  it "are rejected after a stop and in a forked child" do
    task = Repairable.create!
    stopping = start
    native = stopping.task(task.id)
    step = native.step(0)
    *refused, child = in_child_process do
      refused = [-> { native.cancel("why", "ada") }, -> { step.resolve("why", "ada") },
                 -> { native.step(0) }].map do |action|
        action.call
      rescue TaskerCore::InternalError => e
        e.message
      end
      native = step = nil
      [*refused, Process.pid]
    end
    own = "belongs to process #{Process.pid}"
    expect(refused)
      .to match [/this task #{own}, this is process #{child}: start an orchestrator after the fork/,
                 /this step #{own}/, /this task #{own}/]
    stopping.stop(0.0)
    expect { native.cancel("why", "ada") }.to raise_error(TaskerCore::StoppedError)
    expect { step.resolve("why", "ada") }.to raise_error(TaskerCore::StoppedError)
    expect(task.state).to eq "pending"
  end

  it "survive a collection at every allocation" do
    failed = task_with(:a_failed_step)
    orchestrator.process_id
    results = collecting do
      task = orchestrator.task(failed.id)
      refused = [raised { task.step(0).retry("why", "ada") },
                 raised { task.step(1).complete("{", "why", "ada") }]
      task.step(0).update_result('{"n":4}', "why", "ada")
      task.step(1).complete('{"n":16}', "why", "ada")
      [*refused, task.cancel("why", "ada")]
    end
    expect(results)
      .to match [TaskerCore::TransitionError, TaskerCore::InputError, { state: "cancelled", ready_queues: [] }]
    expect(failed.results).to eq("first" => { "n" => 4 }, "second" => { "n" => 16 })
  end

  it "leave a step unchanged when its row has been removed" do
    step = Line.create!(n: 1).step("a")
    ActiveRecord::Base.connection.execute("delete from tasker_workflow_steps where task_id = #{step.task_id}")
    expect { step.reload }.to raise_error(ActiveRecord::RecordNotFound, "there is no step a of task #{step.task_id}")
    expect(step).to have_attributes(name: "a", state: "ready")
  end

  it "wait for the lock that an application holds on a row" do
    task = Diamond.create!(n: 2)
    other = PG.connect(ENV.fetch("DATABASE_URL"))
    { "tasker_tasks where id = #{task.id}" => task,
      "tasker_workflow_steps where task_id = #{task.id} and position = 0" => task.step("a") }.each do |row, record|
      record.with_lock do
        expect { other.exec("select from #{row} for update nowait") }.to raise_error(PG::LockNotAvailable)
      end
    end
  ensure
    other&.close
  end
end
