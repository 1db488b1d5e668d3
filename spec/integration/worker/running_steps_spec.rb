# frozen_string_literal: true

# Running steps are shown as running everywhere, although the database stores an attempt only when it ends.
RSpec.describe "A running step", type: :request do
  let(:connection) { ActiveRecord::Base.connection }
  let(:task) { Held.create! }
  let(:step) { task.step(:only) }
  let(:worker) { process }

  def ask_for(expression) = connection.uncached { connection.select_value("select tasker_core_v1.#{expression}") }

  def process(timeout: 60)
    entry = { name: "worker-7", hostname: "box", pid: 4711, queues: ["*"], heartbeat_timeout_ms: timeout * 1000,
              lease_grace_ms: 30_000 }
    ask_for("register_process('#{JSON.generate(entry)}')")
  end

  def claim(process, limit: 1) = JSON.parse(ask_for("claim_steps(#{process}, '{*}', #{limit})::text"))

  def finish(process, claims, **fields)
    ends = claims.map { fields.merge(**_1, waited_us: 0, ran_us: 2_000_000) }
    ask_for("finish_steps(#{process}, #{connection.quote(JSON.generate(ends))}, 0)::text")
  end

  # With the database's clock moved forward.
  def after(seconds)
    connection.transaction do
      connection.execute("set local tasker_core.clock_offset = '#{seconds} seconds'")
      yield
    end
  end

  def tasker(*arguments)
    out = StringIO.new
    err = StringIO.new
    status = TaskerCore::CLI.new(out: out, err: err).run([*arguments.map(&:to_s), "--require",
                                                          "#{root}/spec/dummy/config/environment.rb"])
    expect([status, err.string]).to eq [0, ""]
    out.string
  end

  def page(path)
    get "/tasker#{path}"
    Nokogiri::HTML5(response.body)
  end

  def cells(page, label)
    page.css("[aria-label='#{label}'] tbody tr").map { |row| row.css("th, td").map { _1.text.squish } }
  end

  before do
    task
    claim(worker)
  end

  it "has an attempt, a start and a process in models and JSON" do
    expect(step).to have_attributes(state: "in_progress", attempts: 1, max_attempts: 3, claimed_by: worker)
    expect(step.claimed_at).to be_within(60).of(Time.now)
    expect(step.process).to have_attributes(label: "worker-7 (pid 4711 on box)")
    after(90) do
      serialized = TaskerCore::HTTP::Serializer.step(step)
      since = step.claimed_at.utc.iso8601(6)
      expect(serialized).to include(attempts: 1, claimed_at: since, started_at: since, finished_at: nil,
                                    process_id: worker,
                                    process: { name: "worker-7", hostname: "box", pid: 4711 },
                                    running_ms: be_between(89_000, 150_000))
      expect(serialized[:executions])
        .to match [include(attempt: 1, outcome: "running", started_at: since, finished_at: nil,
                           duration_ms: be > 89_000, error: nil)]
      expect(TaskerCore::HTTP::Serializer.steps(task).map { |one| one.except(:running_ms) })
        .to include(serialized.except(:executions, :running_ms))
      expect(TaskerCore::HTTP::Serializer.attempts(task).map { _1[:outcome] }).to eq ["running"]
    end
    expect(TaskerCore::Operations::TaskReport.new(task).steps.first)
      .to include(attempts: 1, started_at: match(/\d{4}-/), finished_at: nil)
  end

  it "counts the next attempt of a retry" do
    finish(worker, [held], outcome: "failed", retryable: true, error: { class: "E", message: "no" })
    step.retry!(reason: "at once", by: "ada")
    claim(worker)
    expect(step.reload).to have_attributes(state: "in_progress", attempts: 2)
    expect(TaskerCore::HTTP::Serializer.step(step)).to include(finished_at: nil, running_ms: be_between(2000, 60_000))
    expect(TaskerCore::Graph.of_task(task).to_text).to include "only (in_progress, attempt 2)"
    shown = JSON.parse(tasker("show", task.id, "only", "--json"))["executions"]
    expect(shown.map { _1.values_at("attempt", "outcome") }).to eq [[1, "failed"], [2, "running"]]
  end

  it "is listed by the API with the ended attempts" do
    expect(api(:get, "/tasks/#{task.id}/attempts").fetch("attempts"))
      .to match [include("outcome" => "running", "finished_at" => nil)]
    expect(api(:get, "/tasks/#{task.id}/steps/only"))
      .to include("attempts" => 1, "process" => { "name" => "worker-7", "hostname" => "box", "pid" => 4711 })
    expect(api(:get, "/tasks/#{task.id}").fetch("running_ms")).to be_positive
  end

  it "is printed with attempt, start and process" do
    expect(tasker("show", task.id))
      .to match(/^only +in_progress +1 of 3 +#{step.claimed_at.utc.strftime('%F %T')} +[\d.]+ m?s$/)
      .and match(/^only:\n  runs    attempt 1 since [\d :-]+ UTC in process #{worker}: worker-7, pid 4711 on box$/)
    expect(tasker("show", task.id, "only"))
      .to match(/^only: in_progress, 1 of 3 attempts$/).and match(/^1 +running +#{worker} +[\d :-]+ +[\d.]+ m?s +-$/)
    expect(tasker("list"))
      .to match(/^#{task.id} +default.held \S+ +in_progress +processing +0 of 2 +[\d :-]+ +[\d.]+ m?s +[\d.]+ m?s$/)
    expect(tasker("why", task.id))
      .to match(/only has been running in worker-7 \(process #{worker}, pid 4711 on box\) for .*, attempt 1 of 3/)
  end

  it "is shown on the pages with attempt, start and process" do
    rows = cells(page("/tasks/#{task.uuid}"), "Steps of task #{task.id}")
    expect(rows.first)
      .to match ["only", "▶ in progress in worker-7 (pid 4711 on box)", "1 of 3", / ago\z/, /\A[\d.]+ m?s\z/, ""]
    shown = page("/tasks/#{task.uuid}/steps/only")
    expect(shown.at("dl.facts").text.squish)
      .to match(/Attempts1 of 3 HandlerHeld#only Running since[\d:]{8} UTC, .* ago Process##{worker}, worker-7 /)
    expect(cells(shown, "Attempts of only"))
      .to match [["1", "running", / UTC\z/, / UTC\z/, /\A[\d.]+ m?s\z/, "##{worker}", ""]]
  end

  it "marks its worker as running, whatever the notice mark says" do
    waiting = process
    claim(worker, limit: 5)
    expect(connection.select_value("select idle from tasker_processes where id = #{worker}")).to be true
    processes = TaskerCore::Operations::Health.new.processes.to_h do |one|
      [one["id"], one.values_at("state", "claimed_steps")]
    end
    expect(processes).to include(worker => ["running", 1], waiting => ["waiting_for_work", 0])
    expect(TaskerCore::Operations::Health.new.stats).to include("processes" => 2, "idle_processes" => 1)
    after(120) { expect(TaskerCore::Operations::Health.new.processes.map { _1["state"] }).to eq %w[silent silent] }
    expect(cells(page(""), "Worker processes").map { _1[3] }).to eq ["running 1 step", "waiting for work"]
    expect(tasker("doctor")).to include "2 live workers, 1 waiting for work"
  end

  it "is among the slowest, with its duration so far" do
    after(300) do
      slowest = connection.select_all("select * from tasker_core_v1.slowest_steps(now() - interval '1 hour', 5)").to_a
      expect(slowest)
        .to match [include("step" => "only", "outcome" => "running", "attempt" => 1, "seconds" => be_between(299, 360))]
      task_row = connection.select_all("select * from tasker_core_v1.slowest_tasks(now() - interval '1 hour', 5)").first
      expect(task_row).to include("state" => "in_progress", "attempts" => 1, "running_seconds" => be_between(299, 360))
    end
  end

  it "excludes waits from running time, not from elapsed time" do
    after(3600) { finish(worker, [held], outcome: "completed", result: {}) }
    after(7200) do
      expect(task.execution_context).to include("elapsed_seconds" => be_between(7199, 7260), "running_seconds" => 2.0)
      expect(TaskerCore::HTTP::Serializer.tasks([task]))
        .to match [include(elapsed_ms: be > 7_199_000, running_ms: 2000.0)]
    end
  end

  describe "after a reset" do
    def shown = TaskerCore::HTTP::Serializer.step(step.reload)

    def row = cells(page("/tasks/#{task.uuid}"), "Steps of task #{task.id}").first

    def fail_attempt(**fields)
      finish(worker, [held], outcome: "failed", error: { class: "E", message: "no" }, **fields)
    end

    # Seconds after the task was created.
    def started = Time.iso8601(shown[:started_at]) - task.created_at

    before do
      fail_attempt(retryable: true)
      step.retry!(reason: "at once", by: "ada")
      after(600) { claim(worker) && fail_attempt(retryable: false) }
      step.retry!(reason: "again", by: "ada")
    end

    it "has no start until an attempt begins" do
      expect(shown).to include(state: "ready", attempts: 0, started_at: nil, finished_at: nil, running_ms: 0)
      expect(shown[:executions].map { _1.values_at(:attempt, :outcome) }).to eq [[1, "failed"], [2, "failed"]]
      expect(api(:get, "/tasks/#{task.id}/steps").fetch("steps").first)
        .to include("started_at" => nil, "running_ms" => 0)
      expect(tasker("show", task.id)).to match(/^only +ready +0 of 3 +- +-$/)
      expect(row).to match ["only", / ready\z/, "0 of 3", "–", "–", ""]
    end

    it "starts with the first attempt since the reset" do
      after(3600) { claim(worker) }
      after(3605) do
        expect([shown, started])
          .to match [include(attempts: 1, finished_at: nil, running_ms: be_between(4_000, 60_000)),
                     be_within(60).of(3600)]
        expect(tasker("show", task.id))
          .to match(/^only +in_progress +1 of 3 +#{step.claimed_at.utc.strftime('%F %T')} +\d+(\.\d+)? s$/)
        fail_attempt(retryable: true)
      end
      expect(shown).to include(finished_at: be > task.created_at.utc.iso8601(6), running_ms: 2000.0)
      step.retry!(reason: "at once", by: "ada")
      after(7200) { claim(worker) && finish(worker, [held], outcome: "completed", result: {}) }
      expect([shown, started])
        .to match [include(state: "complete", attempts: 2, running_ms: 4000.0), be_within(60).of(3600)]
      expect(shown[:finished_at]).to eq shown[:executions].last[:finished_at]
      expect(api(:get, "/tasks/#{task.id}")).to include("running_ms" => 8000.0), "all runs count"
      expect(row).to match ["only", / complete\z/, "2 of 3", /\Ain /, "4 s", "Result of only{}"]
    end

    it "keeps its start when a process releases it" do
      after(3600) { claim(worker) }
      released = held
      after(3601) do
        ask_for("release_steps(#{worker}, #{connection.quote(JSON.generate([released]))}, '0', 'shutdown', true)::text")
      end
      expect([shown, started])
        .to match [include(state: "ready", attempts: 0, finished_at: be_a(String)), be_within(60).of(3600)]
      after(7200) { claim(worker) }
      expect([shown, started]).to match [include(attempts: 1, finished_at: nil), be_within(60).of(3600)]
      expect(shown[:executions].map { _1.values_at(:attempt, :outcome) })
        .to eq [[1, "failed"], [2, "failed"], [1, "released"], [1, "running"]]
    end

    it "follows the order of claims when the clock was set back" do
      after(7200) { claim(worker) && fail_attempt(retryable: true) }
      step.retry!(reason: "at once", by: "ada")
      after(3600) { claim(worker) && fail_attempt(retryable: true) }
      expect(started).to be_within(60).of(7200)
      expect(shown[:finished_at]).to eq shown[:executions].last[:finished_at]
    end

    it "starts anew with each reset" do
      after(3600) { claim(worker) && fail_attempt(retryable: false) }
      step.retry!(reason: "once more", by: "ada")
      after(7200) { claim(worker) }
      expect([shown, started]).to match [include(attempts: 1), be_within(60).of(7200)]
    end
  end

  # The columns that identify the claim.
  def held
    connection.select_one("select token, task_id, position, attempt from tasker_claimed_steps where " \
                          "task_id = #{task.id}")
  end

  describe "that waits again" do
    def waiting(reason)
      ask_for("release_steps(#{worker}, #{connection.quote(JSON.generate([held]))}, '1 hour', '#{reason}')::text")
    end

    { "unknown_handler" => "waiting_for_handler", "not_loaded" => "waiting_for_code",
      "not_enqueued" => "waiting_for_queue", "limited" => "waiting_for_capacity",
      "unreadable" => "waiting_for_repair" }.each do |reason, status|
      it "has the status #{status} for the reason #{reason}" do
        waiting(reason)
        expect(task.execution_status).to eq status
        expect(tasker("list", "--status", status)).to match(/^#{task.id} .* #{status} /)
        expect(tasker("list", "--status", "scheduled")).to eq "no task matches\n"
      end
    end

    it "has the status scheduled until its task's start time" do
      finish(worker, [held], outcome: "completed", result: {})
      later = Line.set(wait_until: 1.hour.from_now).create!(n: 1)
      due = later.step(:a).run_at.utc
      expect(later.execution_status).to eq "scheduled"
      expect(api(:get, "/tasks?status=scheduled").fetch("tasks").map { _1["id"] }).to eq [later.id]
      expect(api(:get, "/tasks?status=scheduled,has_ready_steps").fetch("tasks").map { _1["id"] })
        .to eq [later.id, task.id]
      expect(tasker("list", "--status", "scheduled").lines[1]).to include "scheduled until #{due.strftime('%F %T')}"
      listed = page("/tasks?status=scheduled")
      expect(cells(listed, "Tasks").map { _1[2] }).to match [/\A· pending scheduled, in /]
      expect(listed.at("select[name=status] option[selected]")["value"]).to eq "scheduled"
      expect(page("/tasks/#{later.uuid}").at("dl.facts").text.squish).to match(/Statusscheduled for .* UTC, in \d+ min/)
      expect(TaskerCore::Graph.of_task(later).to_text).to include "a (waiting, scheduled)"
      expect { TaskerCore::Operations::TaskSearch.new({ status: "schedulde" }) }
        .to raise_error(TaskerCore::InputError, /status: "schedulde" .* must be one or more of blocked/)
    end

    it "has the status of the most severe reason" do
      both = Class.new(TaskerCore::Workflow) do
        workflow_name "both"
        %i[one two].each { |name| step name, handler: "Square" }
      end
      other = both.set(wait_until: 1.hour.from_now).create!
      connection.execute("update tasker_waiting_steps set reason = 'limited' where task_id = " \
                         "#{other.id} and position = 1")
      expect(other.execution_status).to eq "waiting_for_capacity"
      connection.execute("update tasker_waiting_steps set reason = 'retry' where task_id = " \
                         "#{other.id} and position = 0")
      expect(other.execution_status).to eq "waiting_for_retry"
      connection.execute("update tasker_waiting_steps set reason = 'unknown_handler' where task_id = " \
                         "#{other.id} and position = 1")
      expect(other.execution_status).to eq "waiting_for_handler"
    end
  end
end
