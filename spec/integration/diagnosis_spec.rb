# frozen_string_literal: true

# Explains why a task waits or how it ended, in states that workers and the SQL functions produced.
RSpec.describe TaskerCore::Diagnosis do
  let(:connection) { ActiveRecord::Base.connection }

  def ask_for(expression) = connection.uncached { connection.select_value("select tasker_core_v1.#{expression}") }

  # Registers a worker process that sends no heartbeats.
  def process(queues: ["*"], timeout: 60)
    entry = { name: "worker-0", hostname: "box", pid: 12, queues: queues, heartbeat_timeout_ms: timeout * 1000,
              lease_grace_ms: 30_000 }
    ask_for("register_process('#{JSON.generate(entry)}')")
  end

  def claim(process, limit: 100) = JSON.parse(ask_for("claim_steps(#{process}, '{*}', #{limit})::text"))

  # The columns that identify a claim.
  def key(claim) = claim.slice("token", "task_id", "position", "attempt")

  def finish(process, claims, outcome: "completed", seconds: 1, **fields)
    ends = Array.wrap(claims).map do |claim|
      fields.merge(**key(claim), outcome: outcome, waited_us: 0, ran_us: seconds * 1_000_000)
    end
    ask_for("finish_steps(#{process}, #{connection.quote(JSON.generate(ends))}, 0)::text")
  end

  def fail_step(process, message: "broken", retryable: true, **fields)
    finish(process, claim(process), outcome: "failed", error: { class: "E", message: message, **fields },
                                    retryable: retryable)
  end

  # With the database's clock moved forward.
  def after(seconds)
    connection.transaction do
      connection.execute("set local tasker_core.clock_offset = '#{seconds} seconds'")
      yield
    end
  end

  # At the time at which the task's waiting step is due.
  def when_due(task, &block)
    left = connection.select_value("select extract(epoch from run_at - clock_timestamp()) from tasker_waiting_steps " \
                                   "where task_id = #{task.id}")
    after(left, &block)
  end

  def diagnosis(task) = described_class.new(task)

  def only_reason(task)
    reasons = diagnosis(task).reasons
    expect(reasons.size).to eq 1
    reasons.first
  end

  def workflow(name = "waiting", &block)
    Class.new(TaskerCore::Workflow) do
      workflow_name name
      class_eval(&block)
    end
  end

  def chain(name, length, **options)
    workflow(name) do
      length.times do |number|
        step "s#{number}", handler: "Square", depends_on: number.zero? ? [] : ["s#{number - 1}"], **options
      end
    end
  end

  describe "of a ready step" do
    let(:task) { Diamond.create!(n: 2) }

    it "reports that no worker exists and how to start one" do
      reason = only_reason(task)
      expect([reason.step, reason.kind, reason.remedy]).to eq ["a", "no_worker", "start a worker: `tasker work`"]
      expect(reason.explanation)
        .to match(/\Aa has been ready for [\d.]+ m?s, and there is no worker; 3 steps wait for it\z/)
      expect(reason.facts).to include(queue: "default", count: 1, steps_behind: 3, workers: 0)
      named = "task #{task.id} (default.diamond #{Diamond.version})"
      expect(diagnosis(task).summary)
        .to start_with("#{named} has not started: 0 of 4 steps done; a has been ready for ")
        .and end_with(" there is no worker")
    end

    it "reports that all workers are silent" do
      task
      process(timeout: 20)
      expect(only_reason(task).kind).to eq "ready"
      after(30) { expect(only_reason(task).explanation).to match(/the only worker is silent/) }
      process(timeout: 20)
      after(30) do
        expect(only_reason(task).explanation).to match(/all 2 workers are silent/)
        expect(only_reason(task)).to have_attributes(kind: "no_worker", remedy: "start a worker: `tasker work`")
      end
    end

    it "reports that no worker serves its queue" do
      task
      process(queues: ["payments"])
      expect(only_reason(task)).to have_attributes(kind: "no_worker",
                                                   explanation: /the only live worker does not serve the queue default/,
                                                   remedy: "start a worker for it: `tasker work --queues default`")
      process(queues: %w[payments other])
      expect(only_reason(task).explanation).to match(/none of the 2 live workers serves the queue default/)
    end

    it "reports busy workers, the wait and the steps ahead" do
      before = Diamond.set(priority: -1).create_all!([{ n: 1 }, { n: 2 }])
      other_queue = workflow("elsewhere") { step :only, handler: "Square", queue: "other" }.set(priority: -1).create!
      task
      worker = process
      workflow("held") { step :only, handler: "Square" }.set(priority: -9).create!
      claim(worker, limit: 1)
      expect(only_reason(task)).to have_attributes(
        kind: "ready", remedy: nil,
        explanation: end_with(", and 1 live worker of the queue default runs other steps; 2 steps in its queue are " \
                              "ahead of it; 3 steps wait for it")
      )
      after(10) do
        expect(only_reason(task).explanation).to match(/ready for 1\d s/)
        expect(only_reason(task).remedy).to match(/start more workers \(`tasker work`\), or raise execution.threads/)
      end
      expect(only_reason(before.first).explanation).to match(/it is next in its queue/)
      expect(only_reason(other_queue).facts).to include(steps_ahead: 0)
    end

    it "names an idle worker that will claim it" do
      process
      expect(only_reason(task))
        .to have_attributes(kind: "ready", explanation: /an idle worker claims it at its next poll/)
    end

    it "gives one reason per queue" do
      crowd = workflow("crowd_of_two_queues") do
        15.times { |number| step "s#{number}", handler: "Square" }
        3.times { |number| step "t#{number}", handler: "Square", queue: "other" }
      end
      reasons = diagnosis(crowd.create!).reasons
      expect(reasons.map { [_1.facts[:queue], _1.facts[:count], _1.facts[:steps].size] })
        .to contain_exactly(["default", 15, 10], ["other", 3, 3])
      expect(reasons.map(&:explanation))
        .to include(/\As0 and 14 other steps have been ready/, /\At0 and 2 other steps have/)
    end
  end

  describe "of a running step" do
    let(:task) { chain("held_chain", 3, timeout: 40).create! }

    it "names its worker, its duration and its time limit" do
      worker = process.tap { task && claim(_1) }
      expect(only_reason(task)).to have_attributes(
        step: "s0", kind: "in_progress", remedy: nil,
        explanation: start_with("s0 has been running in worker-0 (process #{worker}, pid 12 on box) for ")
          .and(end_with("s, attempt 1 of 3; its time limit is 40 s; 2 steps wait for it"))
      )
      expect(only_reason(task).facts)
        .to include(process: worker, hostname: "box", pid: 12, timeout: 40.0, lease_until: /\A20\d\d-.*Z\z/, attempt: 1)
      expect(diagnosis(task).summary).to match(/is in progress: 0 of 3 steps done; s0 has been running in worker-0/)
    end

    it "reports a late step and how to release it" do
      worker = process(timeout: 600).tap { task && claim(_1) }
      after(50) do
        ask_for("heartbeat(#{worker}, (select jsonb_agg(to_jsonb(c)) from tasker_claimed_steps c))")
        reason = only_reason(task)
        expect(reason).to have_attributes(
          kind: "in_progress",
          explanation: /its time limit of 40 s has passed, and its lease expires at #{SHOWN_TIME}/
        )
        expect(reason.remedy).to include "`tasker release #{task.id} s0 --reason TEXT`"
      end
    end

    it "reports a silent worker, then the loss of the attempt" do
      process(timeout: 20).tap { task && claim(_1) }
      after(11) do
        expect(only_reason(task)).to have_attributes(
          kind: "in_progress", explanation: /its worker has been silent for 1\d s and is considered lost at \d\d:/
        )
      end
      after(21) do
        expect(only_reason(task)).to have_attributes(
          kind: "lost_worker", remedy: "start a worker: `tasker work`",
          explanation: /sent no heartbeat for 2\d s; no live worker can recover it/
        )
        process
        expect(only_reason(task)).to have_attributes(
          kind: "lost_worker", remedy: nil,
          explanation: /the next sweep of another worker \(every 100 ms\) records attempt 1 of 3 as lost/
        )
      end
    end

    it "reports an expired lease" do
      process(timeout: 600).tap { task && claim(_1) }
      after(71) do
        expect(only_reason(task)).to have_attributes(kind: "lost_worker", explanation: /and its lease expired at \d\d:/)
      end
    end

    it "reports a worker that is no longer registered" do
      worker = process.tap { task && claim(_1) }
      connection.execute("delete from tasker_processes where id = #{worker}")
      expect(only_reason(task))
        .to have_attributes(kind: "lost_worker",
                            explanation: /\As0 was claimed by process #{worker}, which is no longer registered/)
    end
  end

  describe "of a waiting step" do
    it "shows the time, the failure and the command to retry at once" do
      task = workflow("retried") do
        step :pay, handler: "Square", retry: { max_attempts: 5, backoff: :fixed, base: 27, jitter: 0 }
        step :ship, handler: "Square", depends_on: :pay
      end.create!
      fail_step(process, message: "no\n  response", code: "timeout")
      reason = only_reason(task)
      expect(reason).to have_attributes(
        step: "pay", kind: "retry", remedy: "to run it now: `tasker retry #{task.id} pay --reason TEXT`",
        explanation: match(/\Apay waits for attempt 2 of 5 until #{SHOWN_TIME} \(in 2\d s\); /)
          .and(end_with("; its last attempt failed with E: no … (timeout); 1 step waits for it"))
      )
      expect(reason.facts)
        .to include(attempt: 1, max_attempts: 5, waiting_reason: "retry",
                    error: a_hash_including("message" => "no\n  response"))
      expect(diagnosis(task).summary)
        .to match(/is in progress: 0 of 2 steps done; pay waits for attempt 2 of 5 until .* \(in 2\d s\)\z/)
    end

    it "shows the time for which the task is scheduled" do
      task = Diamond.set(wait_until: 3.days.from_now).create!(n: 1)
      time = /20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC/
      expect(only_reason(task)).to have_attributes(
        kind: "delay",
        explanation: /\Aa is scheduled: it waits until #{time} \(in 2 d\), the start time of its task; 3 steps/
      )
    end

    it "names the handler that no worker defines" do
      task = workflow("unknown") { step :only, handler: "NowhereDefined", queue: "odd" }.create!
      with_worker(discovery: { unknown_handler_delay: "1h" }) { eventually { task.steps.first.state == "waiting" } }
      expect(only_reason(task)).to have_attributes(
        kind: "unknown_handler",
        explanation: /no worker that claimed it defines its handler NowhereDefined; it has used no attempt/,
        remedy: "deploy workers that define NowhereDefined, or let only such workers serve the queue odd"
      )
    end

    it "names the settings that limit it" do
      task = workflow("limited") { step :only, handler: "Square", system: :bank }.create!
      worker = process
      claims = JSON.generate(claim(worker).map { key(_1) })
      ask_for("release_steps(#{worker}, '#{claims}', '1 hour', 'limited')")
      limits = "execution.parallel_steps_per_task or systems.bank.concurrency"
      expect(only_reason(task)).to have_attributes(kind: "limited",
                                                   explanation: /the limit #{limits} is reached/,
                                                   remedy: /raise #{limits} or execution.processes\z/)
    end

    it "names what the database cannot read" do
      task = workflow("damaged") do
        step :only, handler: "Square"
        step :next, handler: "Square", depends_on: :only
      end.create!
      damage(task)
      claim_bare(process(timeout: 600))
      reason = only_reason(task)
      expect(reason).to have_attributes(
        step: "only", kind: "unreadable",
        explanation: match(/\Aonly is set aside and checked again at #{SHOWN_TIME} \(in \d min\); /)
          .and(include("TaskerCore::DatabaseError: the database cannot read data needed for a claim: missing chunk "))
          .and(end_with(" (XX001); it has used no attempt; 1 step waits for it")),
        remedy: "repair the damaged data, then `tasker retry #{task.id} only --reason TEXT`; or cancel the task: " \
                "`tasker cancel #{task.id} --reason TEXT`"
      )
      expect(reason.facts).to include(waiting_reason: "unreadable", error: a_hash_including("code" => "XX001"))
      out = StringIO.new
      Dir.chdir("#{root}/spec/dummy") { TaskerCore::CLI.new(out: out, err: out).run(["why", task.id.to_s]) }
      expect(out.string).to include "only is set aside", "tasker retry #{task.id} only"
      when_due(task) do
        expect(only_reason(task).explanation).to include "set aside and checked again by the next sweep"
      end
    end

    it "reports an overdue step that no worker sweeps" do
      task = Diamond.set(wait_until: 10.seconds.from_now).create!(n: 1)
      after(11) do
        expect(only_reason(task)).to have_attributes(
          kind: "overdue", remedy: "start a worker: `tasker work`",
          explanation: /\Aa was due at \d\d:.*, [\d.]+ m?s ago, but no sweep .* ready; no live worker runs sweeps/
        )
      end
      process(timeout: 600)
      when_due(task) do
        expect(only_reason(task)).to have_attributes(kind: "delay",
                                                     explanation: /waits until the next sweep makes it ready/)
      end
      after(30) do
        expect(only_reason(task)).to have_attributes(kind: "overdue", remedy: /workers' log for sweep errors/)
      end
    end
  end

  describe "of a failed step" do
    it "shows the error, the blocked steps and each remedy" do
      task = chain("declined", 15).create!
      fail_step(process, message: "the card was declined", code: "declined", retryable: false)
      reason = only_reason(task)
      expect(reason.explanation)
        .to eq "s0 failed permanently in attempt 1 of 3 with E: the card was declined (declined); the " \
               "error is permanent, so it was not retried; 14 steps wait for it"
      expect(reason.remedy).to include("`tasker retry #{task.id} s0 --reason TEXT`",
                                       "`tasker resolve #{task.id} s0 --reason TEXT`",
                                       "`tasker complete #{task.id} s0 --result JSON --reason TEXT`")
      expect(diagnosis(task).summary)
        .to end_with("has ended with an error: 0 of 15 steps done; s0 failed permanently in attempt 1 of 3 with E: " \
                     "the card was declined (declined)")
    end

    it "shows only the class when the message adds nothing" do
      task = chain("silent", 1).create!
      fail_step(process, message: "E", retryable: false)
      expect(only_reason(task).explanation)
        .to eq "s0 failed permanently in attempt 1 of 3 with E; the error is permanent, so it was not retried"
    end

    it "comes before running steps" do
      task = Three.create!
      states = [["hopeless", "error", 1], ["patient", "waiting", 1], ["well", "complete", 1]]
      with_worker { eventually { outline(task).sort == states } }
      expect(diagnosis(task).reasons.map { [_1.step, _1.kind] }).to eq [%w[hopeless error], %w[patient retry]]
      expect(diagnosis(task).summary).to include("is in progress: 1 of 3 steps done; hopeless failed permanently ")
        .and end_with("no such article (unknown_article), and 1 other reason")

      task.step("hopeless").resolve!(reason: "ordered elsewhere", by: "ada")
      expect(only_reason(task).step).to eq "patient"
    end

    it "is summarized beyond ten failed steps" do
      many = workflow("many_fail") { 25.times { |number| step "s#{number}", handler: "Square", retryable: false } }
      task = many.create!
      fail_step(process)
      reasons = diagnosis(task).reasons
      expect(reasons.size).to eq 11
      expect(reasons.last)
        .to have_attributes(step: nil, kind: "error", facts: { count: 15 },
                            explanation: /\A15 more steps are like s\d+: a step failed permanently\z/)
    end
  end

  describe "of an ended task" do
    it "shows the duration and the slowest step" do
      task = Line.create!(n: 1)
      worker = process
      [1, 7, 2, 1].each { |seconds| finish(worker, claim(worker), seconds: seconds, result: {}) }
      times = "its attempts ran for 11 s in total, the slowest (b) for 7 s"
      expect(only_reason(task)).to have_attributes(
        step: nil, kind: "complete", remedy: nil,
        explanation: match(/\Ait took [\d.]+ m?s including waits; /).and(end_with("; #{times}"))
      )
      expect(only_reason(task).facts).to include(slowest_step: "b", slowest_seconds: 7.0, running_seconds: 11.0)
      expect(diagnosis(task).summary).to match(/is complete: 4 of 4 steps done; it took/)
    end

    it "names the steps that operators ended, and why" do
      task = Line.create!(n: 1)
      %w[a b].each { |name| task.step(name).resolve!(reason: "done in #{name}", by: "ada") }
      task.step("c").complete!({ n: 1 }, reason: "known", by: "bob")
      task.step("d").resolve!(reason: "done", by: "ada")
      expect(diagnosis(task).reasons.map { [_1.kind, _1.step, _1.facts[:by], _1.facts[:reason]] })
        .to eq [["resolved_manually", "a", "ada", "done in a"], ["resolved_manually", "b", "ada", "done in b"],
                ["resolved_manually", "c", "bob", "known"], %w[resolved_manually d ada done],
                ["complete", nil, nil, nil]]
      expect(diagnosis(task).reasons[2].explanation).to match(/\Abob completed c at #{SHOWN_TIME}: known\z/)
    end

    it "names who cancelled it, when and why" do
      task = Diamond.create!(n: 1).cancel!(reason: "wrong address", by: "ada")
      expect(only_reason(task))
        .to have_attributes(step: nil, kind: "cancelled", remedy: nil,
                            explanation: /\Aada cancelled it at #{SHOWN_TIME}: wrong address\z/)
      expect(diagnosis(task).summary).to match(/is cancelled: 0 of 4 steps done; ada cancelled it at/)
    end

    it "names who resolved it" do
      task = Diamond.create!(n: 1)
      fail_step(process, retryable: false)
      task.resolve!(reason: "paid in cash", by: "bob")
      expect(only_reason(task))
        .to have_attributes(kind: "resolved_manually", explanation: /\Abob resolved it at .*: paid in cash\z/)
    end
  end

  it "reports a task that cannot continue as broken" do
    task = Diamond.create!(n: 1)
    connection.execute("delete from tasker_ready_steps")
    expect(only_reason(task))
      .to have_attributes(kind: "broken", remedy: "`tasker audit` explains it, and `tasker audit --repair` repairs it")
  end

  it "raises for a removed task" do
    task = Diamond.create!(n: 1)
    connection.execute("delete from tasker_tasks")
    expect { diagnosis(task).reasons }.to raise_error(TaskerCore::TaskNotFoundError, "there is no task #{task.id}")
  end

  it "converts to JSON and text" do
    task = Diamond.create!(n: 1)
    json = JSON.parse(JSON.generate(diagnosis(task).to_h))
    expect(json)
      .to include("task" => task.id, "reasons" => [a_hash_including("step" => "a", "kind" => "no_worker",
                                                                    "facts" => a_hash_including("queue" => "default"))])
    expect(diagnosis(task).to_s.lines.size).to eq 3
    expect(diagnosis(task).reasons.first).to be_frozen
  end

  it "needs as few queries for a large task as for a small one" do
    asked = lambda do |task|
      count = 0
      counter = ->(*, payload) { count += 1 if payload[:name] == "TaskerCore" }
      ActiveSupport::Notifications.subscribed(counter, "sql.active_record") { diagnosis(task).to_s }
      count
    end
    large = chain("large_chain", 2000).create!
    expect([asked.call(Diamond.create!(n: 1)), asked.call(large)]).to eq [2, 2]
    expect(only_reason(large).explanation).to match(/more than 500 steps wait for it/)
  end
end
