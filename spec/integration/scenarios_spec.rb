# frozen_string_literal: true

# The scenarios with handlers in Ruby, on a worker of the real extension. docs/testing.md lists them with Rust's tests.
RSpec.describe "Scenarios" do
  def ended(task) = task.wait(timeout: 120)

  describe "S1: four squarings in a line" do
    it "give the sixteenth power" do
      task = Line.create!(n: 6)
      expect([task.state, task.execution_status]).to eq %w[pending has_ready_steps]
      with_worker { ended(task) }
      expect(task.results.transform_values { _1["n"] })
        .to eq("a" => 36, "b" => 1296, "c" => 1_679_616, "d" => 2_821_109_907_456)
      expect([task.state, task.execution_status]).to eq %w[complete all_complete]
      expect(outline(task)).to all(match([String, "complete", 1]))
    end
  end

  describe "S2: a diamond" do
    it "joins both branches" do
      task = Diamond.create!(n: 6)
      with_worker { ended(task) }
      expect(task.results["d"]["n"]).to eq 6**16
    end

    it "runs its branches in parallel on threads of one process" do
      task = Meeting.create!
      with_worker(threads: 2) { ended(task) }
      expect(task.results["both"]).to eq("met" => { "left" => "right", "right" => "left" })
      left, right, join = task.attempts.sort_by(&:position)
      expect([left.started_at, right.started_at].max).to be < [left.finished_at, right.finished_at].min
      expect(join.started_at).to be >= [left.finished_at, right.finished_at].max
    end
  end

  describe "S3 and S4: a tree and a mixed graph" do
    it "keep big integers exact" do
      tasks = [Tree.create!(n: 6), Mixed.create!(n: 6)]
      with_worker { tasks.each { ended(_1) } }
      expect(tasks.map { _1.results.values.map { |result| result["n"] }.max }).to eq [6**64, 6**64]
    end
  end

  describe "S5: a step that fails twice of three times" do
    it "is retried by its policy while its dependents wait" do
      task = Flaky.create!(failures: 2)
      with_worker do
        eventually { task.execution_status == "waiting_for_retry" }
        expect(sweep_after(59)).to eq 0
        expect(sweep_after(61)).to eq 1
        eventually { outline(task)[1] == ["trial", "waiting", 2] }
        expect(outline(task)[2]).to eq ["after", "pending", 0]
        expect(sweep_after(119)).to eq 0
        expect(sweep_after(121)).to eq 1
        ended(task)
      end
      expect(outline(task)).to eq [["before", "complete", 1], ["trial", "complete", 3], ["after", "complete", 1]]
      expect(task.results["after"]).to eq("seen" => 3, "far" => {})
    end
  end

  describe "S6: a step that fails three times of three" do
    it "blocks its task" do
      task = Flaky.create!(failures: 3)
      with_worker do
        [[1, 61], [2, 121]].each do |attempts, seconds|
          eventually { outline(task)[1] == ["trial", "waiting", attempts] }
          expect(sweep_after(seconds)).to eq 1
        end
        ended(task)
      end
      expect([task.state, task.execution_status]).to eq %w[error blocked_by_failures]
      expect(outline(task)).to eq [["before", "complete", 1], ["trial", "error", 3], ["after", "pending", 0]]
      expect(task.execution_context).to include("total_steps" => 3, "completed_steps" => 1, "failed_steps" => 1)
    end
  end

  describe "S7: a diamond whose branches fail" do
    { %w[b c] => 1, %w[b] => 2 }.each do |failing, completed|
      it "completes the rest but never the join (failed: #{failing.join(', ')})" do
        task = Forked.create!(failing: failing)
        with_worker { ended(task) }
        expect([task.state, task.execution_status]).to eq %w[error blocked_by_failures]
        expect(task.steps.count { |step| step.state == "complete" }).to eq completed
        expect(outline(task).last).to eq ["d", "pending", 0]
      end
    end
  end

  describe "S8: a permanent error" do
    it "fails the step after one attempt and keeps its code" do
      task = Flaky.create!(failures: 1, kind: "permanent")
      with_worker { ended(task) }
      expect(task.state).to eq "error"
      trial = task.steps[1]
      expect([trial.state, trial.attempts]).to eq ["error", 1]
      expect(trial.error)
        .to include("class" => "TaskerCore::PermanentError", "message" => "declined", "code" => "card_declined")
      expect(trial.error["backtrace"].first).to include "flaky.rb"
    end
  end

  describe "S11: a delay that a server asks for" do
    it "overrides the policy" do
      task = Flaky.create!(failures: 1, kind: "later", after: 30)
      with_worker do
        eventually { task.execution_status == "waiting_for_retry" }
        expect(sweep_after(29)).to eq 0
        expect(sweep_after(31)).to eq 1
        ended(task)
      end
      expect(task.results["trial"]).to eq("attempt" => 2)
    end
  end

  describe "S9: three outcomes in one task" do
    it "shows the failure first and still retries the rest" do
      task = Three.create!
      with_worker do
        eventually { outline(task).map { _1[1] } == %w[complete error waiting] }
        expect([task.state, task.execution_status]).to eq %w[in_progress blocked_by_failures]
        expect(sweep_after(61)).to eq 1
        ended(task)
      end
      expect(outline(task)).to eq [["well", "complete", 1], ["hopeless", "error", 1], ["patient", "complete", 2]]
      expect([task.state, task.execution_status]).to eq %w[error blocked_by_failures]
    end
  end

  describe "S12: an operator and a failed step" do
    # Runs the block as the operator, once the task has ended with its second step failed.
    def repaired
      task = Repairable.create!
      with_worker do
        ended(task)
        expect(outline(task)).to eq [["first", "complete", 1], ["second", "error", 2], ["third", "pending", 0]]
        yield task
        ended(task)
      end
      task
    end

    def operate(name, *arguments)
      TaskerCore::ApplicationRecord.on_connection do |connection|
        TaskerCore::Postgres::Functions.call(connection, name, *arguments, "the warehouse called", "ada")
      end
    end

    def events(task)
      TaskerCore::ApplicationRecord.connection.select_rows(
        "select action, position, actor, reason from tasker_task_events where task_id = #{task.id} order by id"
      )
    end

    it "resolves it and unblocks the steps after it" do
      task = repaired { |failed| operate(:resolve_step, failed.id, 1) }
      expect(outline(task).map { _1[1] }).to eq %w[complete resolved_manually complete]
      expect([task.state, task.results["third"]]).to eq ["complete", { "saw" => nil }]
      expect(events(task)).to eq [["resolve", 1, "ada", "the warehouse called"]]
    end

    it "completes it with a result that later steps read" do
      task = repaired { |failed| operate(:complete_step, failed.id, 1, '{"by": "ada"}') }
      expect(outline(task)[1]).to eq ["second", "complete", 2]
      expect(task.results["third"]).to eq("saw" => { "by" => "ada" })
      expect(events(task).map(&:first)).to eq ["complete"]
    end

    { retry_task: [], retry_step: [1] }.each do |name, position|
      it "resets its attempts (#{name}) and the task completes" do
        task = repaired do |failed|
          Repairable.repaired = true
          operate(name, failed.id, *position)
        end
        expect(outline(task)).to eq [["first", "complete", 1], ["second", "complete", 1], ["third", "complete", 1]]
        expect(task.results["third"]).to eq("saw" => { "by" => "handler", "attempt" => 1 })
        expect(task.attempts.map(&:outcome)).to eq %w[completed failed failed completed completed]
        expect(events(task)).to eq [["retry", position.first, "ada", "the warehouse called"]]
      end
    end

    it "acts by models in a transaction and wakes workers" do
      task = Repairable.create!
      with_worker(discovery: { poll_interval: 600 }, maintenance: { sweep_interval: 600 }) do
        eventually { task.ended? }
        second = task.step(:second)
        ActiveRecord::Base.transaction do
          second.resolve!(reason: "the warehouse called", by: "ada")
          expect(second.state).to eq "resolved_manually"
          raise ActiveRecord::Rollback
        end
        expect(second.reload.state).to eq "error"
        Repairable.repaired = true
        expect(second.retry!(reason: "the warehouse called", by: :ada)).to be second
        task.wait(timeout: 120)
        expect(task.step("third").update_result!({ saw: "more" }, reason: "a slip", by: "ada").result)
          .to eq("saw" => "more")
      end
      expect { task.retry!(reason: "why", by: "ada") }
        .to raise_error(TaskerCore::TransitionError, /has no waiting or failed step/)
      expect { task.resolve!(reason: "why", by: "ada") }
        .to raise_error(TaskerCore::TransitionError, /only a task that has ended with an error/)
      expect { task.step("third").update_result!({}, reason: "", by: "ada") }
        .to raise_error(TaskerCore::InputError, /reason: is blank/)
      expect { task.step("thrid") }
        .to raise_error(TaskerCore::UnknownStepError, "thrid is not a step of task #{task.id}: did you mean third?")
      expect { task.step("third").complete!(Float::NAN, reason: "x", by: "y") }
        .to raise_error(TaskerCore::InputError, /result: cannot be written as JSON/)
      expect(events(task).map(&:first)).to eq %w[retry update_result]

      waiting = Repairable.set(wait_until: 1.hour.from_now).create!
      first = waiting.step("first")
      expect(first.retry!(reason: "now", by: "ada").state).to eq "ready"
      expect { first.release!(reason: "why", by: "ada") }
        .to raise_error(TaskerCore::TransitionError, /only a running step can be released/)
      expect { first.retry!(reason: "why", by: "ada") }
        .to raise_error(TaskerCore::TransitionError, /is ready: only a waiting or failed step/)
      expect(first.complete!({ by: "hand" }, reason: "why", by: "ada"))
        .to have_attributes(state: "complete", result: { "by" => "hand" })
      expect(waiting.cancel!(reason: "why", by: "ada").state).to eq "cancelled"
      expect(first.task).to eq waiting
    end

    it "replaces results, and needs a legal state and a reason" do
      task = repaired { |failed| operate(:resolve_step, failed.id, 1) }
      operate(:update_result, task.id, 2, '{"saw": "more"}')
      expect(task.results["third"]).to eq("saw" => "more")
      expect { operate(:retry_step, task.id, 2) }
        .to raise_error(TaskerCore::TransitionError, /step third of task \d+ is complete: only a waiting or failed/)
      expect { operate(:update_result, task.id, 2, "7") }
        .to raise_error(TaskerCore::InputError, /result: 7 \(number\) must be an object/)
      expect { operate(:resolve_step, task.id, 9) }
        .to raise_error(TaskerCore::TaskNotFoundError, /has no step at position 9/)
      expect { operate(:resolve_task, task.id) }
        .to raise_error(TaskerCore::TransitionError, /task \d+ is complete: only a task that has/)
      expect do
        TaskerCore::Postgres::Functions.call(TaskerCore::ApplicationRecord.connection, :update_result, task.id, 2,
                                             "{}", " ", "ada")
      end.to raise_error(TaskerCore::InputError, /reason: is blank: give the reason/)
    end

    it "cancels the task and revokes its running step" do
      task = Held.create!
      with_worker(leases: { heartbeat_interval: "50ms" }) do |worker|
        token = Held::RUNNING.pop
        operate(:cancel_task, task.id)
        Held::FINISH << "late"
        eventually { worker.health[:stale] == 1 }
        expect(task.attempts.map { [_1.token, _1.outcome] }).to eq [[token, "released"]]
      end
      expect(outline(task)).to eq [["only", "cancelled", 0], ["after", "cancelled", 0]]
      expect([task.state, task.execution_status]).to eq %w[cancelled cancelled]
      expect(task.results).to eq({})
    end
  end

  describe "S13: identity" do
    it "returns the first task for a taken key" do
      first = Diamond.set(idempotency_key: "order-1").create!(n: 1)
      again = Diamond.set(idempotency_key: "order-1").create!(n: 1)
      expect([first.existing?, again.existing?, again.id]).to eq [false, true, first.id]
      expect(Line.set(idempotency_key: "order-1").create!(n: 1)).not_to be_existing
      flaky = Flaky.set(idempotency_key: "x").create!(failures: 1, kind: "later")
      expect(Flaky.set(idempotency_key: "x").create!(kind: "later", failures: 1).id).to eq flaky.id
    end

    it "creates one task for fifty concurrent calls" do
      start = Queue.new
      threads = Array.new(50) do
        Thread.new do
          start.pop
          TaskerCore::ApplicationRecord.connection_pool.with_connection do
            Diamond.set(idempotency_key: "rush").create!(n: 3).then { [_1.id, _1.existing?] }
          end
        end
      end
      50.times { start << :go }
      outcomes = threads.map(&:value)
      expect(outcomes.map(&:first).uniq.size).to eq 1
      expect(outcomes.map(&:last).tally).to eq(true => 49, false => 1)
      expect(TaskerCore::Task.count).to eq 1
    end
  end

  describe "S14: kill -9 in the middle of a step" do
    it "records a lost attempt and runs the step elsewhere" do
      Dir.mktmpdir do |directory|
        task = Slow.create!(directory: directory)
        with_worker_processes(processes: 1) do
          first = eventually { Dir["#{directory}/started-1-*"].first }
          Process.kill("KILL", first[/\d+\z/].to_i)
          second = eventually { Dir["#{directory}/started-2-*"].first }
          expect(second[/\d+\z/]).not_to eq first[/\d+\z/]
          File.write("#{directory}/go", "")
          ended(task)
        end
        expect(task.attempts.map { [_1.attempt, _1.outcome] }).to eq [[1, "lost"], [2, "completed"]]
        expect(task.results["only"]["attempt"]).to eq 2
      end
    end
  end

  describe "S15: a worker that was paused past its lease" do
    it "finishes nothing after it resumes" do
      Dir.mktmpdir do |directory|
        task = Slow.create!(directory: directory)
        with_worker_processes(processes: 1, threads: 1) do
          paused = eventually { Dir["#{directory}/started-1-*"].first }[/\d+\z/].to_i
          Process.kill("STOP", paused)
          with_worker do
            eventually { Dir["#{directory}/started-2-*"].first }
            File.write("#{directory}/go", "")
            ended(task)
          end
          Process.kill("CONT", paused)
          eventually do
            TaskerCore::ApplicationRecord.connection.select_value("select count(*) from tasker_processes").positive?
          end
        end
        expect(task.attempts.map { [_1.attempt, _1.outcome] }).to eq [[1, "lost"], [2, "completed"]]
        expect(task.results["only"]).to eq("attempt" => 2, "pid" => Process.pid)
      end
    end
  end

  describe "S16: two worker processes and a thousand diamonds" do
    it "complete every step exactly once, in both processes" do
      with_worker_processes(processes: 2) do
        eventually { TaskerCore::RegisteredProcess.uncached { TaskerCore::RegisteredProcess.count } == 2 }
        Diamond.create_all!(Array.new(1000) { { n: 2 } })
        eventually(within: 180) { TaskerCore::Task.where(ended_at: nil).none? }
      end
      attempts = TaskerCore::StepAttempt.all
      expect(attempts.group(:outcome).count).to eq("completed" => 4000)
      expect(attempts.distinct.count("(task_id, position)")).to eq 4000
      expect(attempts.distinct.count(:process_id)).to eq 2
      expect(TaskerCore::Task.distinct.pluck(:state)).to eq ["complete"]
    end
  end

  describe "S17: the database goes away and comes back" do
    around do |example|
      TaskerCore::Development::PrivatePostgres.run(fsync: "off") do |server|
        @server = server
        TaskerCore::Development::Database.prepare(TaskerCore::Development::Database.create(server.url, "tasker_away"))
        example.run
      ensure
        ActiveRecord::Base.establish_connection(ENV.fetch("DATABASE_URL"))
      end
    end

    %w[fast immediate].each do |mode|
      it "delivers finished steps once and loses none (#{mode})" do
        tasks = Line.create_all!(Array.new(30) { |n| { n: n } }) << Held.create!
        with_worker do |worker|
          Held::RUNNING.pop
          @server.down(mode) do
            Held::FINISH << "while it was away"
            eventually { worker.health[:running].zero? }
          end
          ActiveRecord::Base.connection_handler.clear_all_connections!(:all)
          eventually { TaskerCore::Task.where(ended_at: nil).none? }
        end
        expect(tasks.map(&:state).uniq).to eq ["complete"]
        expect(tasks.last.results["after"]).to eq("saw" => "while it was away")
        outcomes = TaskerCore::StepAttempt.group(:outcome).count
        expect(outcomes).to eq("completed" => 122)
        expect(TaskerCore::Operations::Audit.new.to_a).to eq []
      end
    end
  end

  describe "S18: orders of a shop" do
    it "reach the totals despite declines, busy services and a kill" do
      TaskerCore::Development::Database.temporary(SERVER_URL, "tasker_demo_test") do |url|
        out, status = Open3.capture2e({ "DATABASE_URL" => url }, RbConfig.ruby, "-Ilib", "demo/run.rb", chdir: root)
        expect(status).to be_success, out
      end
    end
  end

  describe "S19: one name in two namespaces and two versions" do
    def workflow(namespace, version, number)
      stub_const("Numbered#{number}",
                 Class.new(TaskerCore::StepHandler) { define_method(:call) { |_| { number: number } } })
      Class.new(TaskerCore::Workflow) do
        workflow_name "twin"
        namespace namespace
        version version
        step :only, handler: "Numbered#{number}"
        step :second, depends_on: :only, handler: "Numbered#{number}"
      end
    end

    it "run side by side, each task on its own version" do
      twins = [workflow("east", "1", 1), workflow("east", "2", 2), workflow("west", "1", 3)]
      tasks = twins.map(&:create!)
      with_worker { tasks.each { ended(_1) } }
      expect(tasks.map { |task| task.results["second"]["number"] }).to eq [1, 2, 3]
      expect(tasks.map { |task| task.workflow_version.slice(:namespace, :version).values })
        .to eq [%w[east 1], %w[east 2], %w[west 1]]
    end
  end

  describe "S20: one to a thousand to one" do
    it "runs the join once" do
      wide = Class.new(TaskerCore::Workflow) do
        workflow_name "wide"
        step :root, handler: "Noted"
        1000.times { |number| step "branch_#{number}", depends_on: :root, handler: "Noted" }
        step :join, depends_on: Array.new(1000) { |number| "branch_#{number}" }, handler: "Noted"
      end
      stub_const("Noted",
                 Class.new(TaskerCore::StepHandler) { def call(context) = { after: context.results.to_h.size } })
      task = wide.create!
      with_worker(threads: 5) { ended(task) }
      expect(task.results["join"]).to eq("after" => 1001)
      expect(task.attempts.size).to eq 1002
    end
  end

  describe "S22: creation inside a transaction" do
    it "leaves no task after a rollback" do
      TaskerCore::ApplicationRecord.transaction do
        Diamond.create!(n: 2)
        raise ActiveRecord::Rollback
      end
      expect(TaskerCore::Task.count).to eq 0
    end

    it "registers the workflow again after a test's rollback" do
      stub_const("TakenBack", Class.new(TaskerCore::Workflow) do
        workflow_name "taken_back"
        step :only, handler: "Nowhere"
      end)
      2.times do
        TaskerCore::ApplicationRecord.transaction(joinable: false) do
          expect(TaskerCore::ApplicationRecord.transaction { TakenBack.create! }.state).to eq "pending"
          expect(TakenBack.create!.state).to eq "pending"
          raise ActiveRecord::Rollback
        end
      end
    end

    it "starts the task only after the commit" do
      with_worker do
        task = TaskerCore::ApplicationRecord.transaction do
          inside = Diamond.create!(n: 2)
          # Another task, created on another connection, completes meanwhile.
          Thread.new { ended(Line.create!(n: 2)) }.join
          expect(inside.attempts).to be_empty
          inside
        end
        expect(ended(task).state).to eq "complete"
      end
    end
  end

  describe "S10: boundaries" do
    it "rejects zero attempts at compilation" do
      none = Class.new(TaskerCore::Workflow) do
        workflow_name "none"
        step :only, handler: "Square", retry: { max_attempts: 0 }
      end
      expect { none.create! }
        .to raise_error(TaskerCore::WorkflowError,
                        /steps\[0\].retry.max_attempts: 0 \(integer\) must be an integer from 1/)
      expect(TaskerCore::WorkflowVersion.where(name: "none")).to be_empty
    end
  end

  describe "faulty handlers" do
    { "hang" => /the time limit of 2.0 s has passed/, "exit" => /exit/, "text" => /returned "not a hash" \(String\)/,
      "nan" => /cannot be written as JSON/, "null byte" => /null character/,
      "large" => /limits.payload_bytes is 1048576/,
      "binary" => /cannot be written as JSON/, "syntax" => /not yet written/,
      "own ancestor" => /nowhere is not before step only/ }.each do |kind, message|
      it "end their step with an explanatory error (#{kind})" do
        task = Impatient.create!(kind: kind)
        with_worker { ended(task) }
        expect(task.steps.first).to have_attributes(state: "error", attempts: 1)
        expect(task.steps.first.error["message"]).to match message
      end
    end

    it "may return integers of any size" do
      task = Impatient.create!
      with_worker { ended(task) }
      expect(task.results["only"]).to eq("time" => "2026-01-02T00:00:00.000Z", "symbol" => "word", "big" => 2**200,
                                         "nested" => { "1" => [1.5, nil, true] })
    end
  end

  it "accepts the maximum depth of inputs and results only" do
    deep = ->(depth) { (depth - 1).times.inject({ n: 1 }) { |inner, _| { in: inner } } }
    stub_const("Echo", Class.new(TaskerCore::StepHandler) { def call(context) = context.input })
    echo = Class.new(TaskerCore::Workflow) do
      workflow_name "echo"
      step :first, handler: "Echo"
      step :second, depends_on: :first, handler: "Echo"
    end
    task = echo.create!(**deep.call(100))
    with_worker { ended(task) }
    expect(task.state).to eq "complete"
    expect { echo.create!(**deep.call(101)) }.to raise_error(TaskerCore::InputError, /nested more than 100 levels deep/)
  end

  it "runs a workflow declared in YAML" do
    task = TaskerCore.workflow("yaml_diamond", namespace: "files").create!(n: 6)
    with_worker { ended(task) }
    expect(task.results["d"]["n"]).to eq 6**16
  end
end
