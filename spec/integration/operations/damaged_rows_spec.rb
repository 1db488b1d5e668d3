# frozen_string_literal: true

# The command line and models on tasks of which the database cannot read something.
RSpec.describe "Damaged rows" do
  let!(:sound) { Line.set(tags: %w[red]).create!(n: 1) }
  let!(:damaged) { Line.set(tags: %w[red]).create!(n: 1).tap { |task| damage(task) } }

  def connection = ActiveRecord::Base.connection

  # @return [Array(Integer, String, String)] exit status, what it prints, what it complains of
  def tasker(*arguments)
    out = StringIO.new
    err = StringIO.new
    cli = TaskerCore::CLI.new(out: out, err: err)
    status = Dir.chdir("#{root}/spec/dummy") { cli.run(arguments.map(&:to_s)) }
    [status, out.string, err.string]
  end

  def lose_error(position)
    lose("tasker_workflow_steps", "last_error = #{Damage::LONG}", "task_id = #{damaged.id} and position = #{position}")
  end

  def fail_first_step
    worker = register
    2.times { claim_bare(worker) }
    connection.execute(<<~SQL)
      delete from tasker_waiting_steps where task_id = #{damaged.id};
      update tasker_workflow_steps set state = 'error', attempts = 1 where task_id = #{damaged.id} and position = 0;
      update tasker_tasks set active = active - 1, state = 'error', ended_at = now() where id = #{damaged.id};
    SQL
  end

  def register
    entry = { name: "worker", hostname: "box", pid: 1, queues: ["*"],
              heartbeat_timeout_ms: 60_000, lease_grace_ms: 30_000 }
    connection.select_value("select tasker_core_v1.register_process('#{JSON.generate(entry)}')")
  end

  it "are listed by `tasker list`, which names the damage" do
    status, out, = tasker("list")
    expect([status, out.lines.drop(1).map { |line| line[/\d+/].to_i }]).to eq [0, [damaged.id, sound.id]]
    status, out, = tasker("list", "--tag", "red")
    damage = "task #{damaged.id}: its tags cannot be read by the database: `tasker why #{damaged.id}`"
    expect([status, out]).to match [0, /^#{damaged.id} .*^#{sound.id} .*^#{damage}$/m]
    status, out, = tasker("list", "--json")
    expect([status, JSON.parse(out)["tasks"].map { |task| task["unreadable"] }]).to eq [0, [["tags"], nil]]
  end

  it "do not cost a plain list another statement" do
    reads = []
    counter = ->(*, payload) { reads << payload[:sql] if payload[:sql].match?(/tasker_tasks/) }
    ActiveSupport::Notifications.subscribed(counter, "sql.active_record") { tasker("list") }
    expect(reads).to match [satisfy { |sql| !sql.include?("tags") }]
  end

  it "allow operators to act on a task" do
    expect(tasker("show", damaged.id)).to match [0, /unreadable +the database cannot read: tags/, ""]
    expect(tasker("graph", damaged.id)).to match [0, /a/, ""]
    worker = register
    2.times { claim_bare(worker) }
    expect(tasker("retry", damaged.id, "--reason", "repaired")).to match [0, /waiting → ready/, ""]
    expect(tasker("cancel", damaged.id, "--reason", "damaged", "--json"))
      .to match [0, /"tags":null|"unreadable":\["tags"\]/, ""]
    expect(damaged.reload.state).to eq "cancelled"
    message = /\Athe tags of task #{damaged.id} cannot be read by the database: missing chunk/
    expect { damaged.tags }.to raise_error(TaskerCore::UnreadableError, message)
  end

  it "do not roll back an operator's transaction" do
    ActiveRecord::Base.transaction do
      damaged.cancel_with_reason!("damaged", by: "ada")
      expect { damaged.tags }.to raise_error(TaskerCore::UnreadableError)
      expect(TaskerCore::Operations::TaskSearch.new.page.tasks).to eq [damaged, sound]
    end
    expect(damaged.state).to eq "cancelled"
  end

  it "show every step whose error can be read" do
    fail_first_step
    lose_error(0)
    unreadable = /the database cannot read the error: missing chunk/
    expect(tasker("why", damaged.id)).to match [0, unreadable, ""]
    expect(tasker("show", damaged.id)).to match [0, unreadable, ""]
    expect(tasker("graph", damaged.id)).to match [0, unreadable, ""]
    expect(tasker("retry", damaged.id, "a", "--reason", "repaired")).to match [0, /a: error → ready/, ""]
    expect(damaged.step(:a)).to have_attributes(state: "ready", error: nil)
  end

  it "show every attempt whose error can be read" do
    fail_first_step
    connection.execute(<<~SQL)
      insert into tasker_step_attempts (task_id, position, token, attempt, process_id, ready_at, claimed_at, started_at,
        finished_at, outcome, error)
      select #{damaged.id}, 0, n, n, 1, now(), now(), now(), now(), 'failed', '{}' from generate_series(1, 2) as n
    SQL
    lose("tasker_step_attempts", "error = #{Damage::LONG}", "task_id = #{damaged.id} and token = 1")
    unreadable = /the error of attempt 1 cannot be read by the database: missing chunk/
    expect(tasker("show", damaged.id, "a")).to match [0, unreadable, ""]
    status, out, = tasker("show", damaged.id, "a", "--json")
    expect([status, JSON.parse(out)["executions"].map { |attempt| attempt["error"] }])
      .to match [0, [{ "class" => "TaskerCore::UnreadableError", "message" => unreadable, "code" => "XX001" }, {}]]
  end

  it "explain tasks of a workflow whose definition cannot be read" do
    lose("tasker_workflow_versions", "definition = #{Damage::LONG}", "id = #{damaged.workflow_version_id}")
    expect(tasker("list")).to match [0, /line/, ""]
    expect(tasker("show", damaged.id)).to match [0, /^a .*^b /m, ""]
    expect(tasker("why", damaged.id)).to match [0, /a has been ready for/, ""]
    expect(tasker("graph", damaged.id)).to match [0, /a/, ""]
    status, out, = tasker("workflows", "--json")
    stored = JSON.parse(out)["workflows"].find { |workflow| workflow["name"] == "line" }
    expect([status, stored.values_at("steps", "description", "unreadable")])
      .to eq [0, [Line.compiled.step_names.size, nil, ["description"]]]
  end

  it "explain an ended task although an operator's reason cannot be read" do
    damaged.step(:a).resolve!(reason: "elsewhere", by: "ada")
    damaged.cancel!(reason: "never mind", by: "ada")
    long = "(select string_agg(md5(n::text), ' ') from generate_series(1, 500) as n)"
    lose("tasker_task_events", "reason = #{long}", "task_id = #{damaged.id}")
    expect(tasker("why", damaged.id))
      .to match [0, /ada cancelled it at .*: \(the database cannot read the reason\)/, ""]
    expect(TaskerCore::Diagnosis.const_get(:Snapshot).new(damaged.id).step_overrides)
      .to match [a_hash_including("name" => "a", "reason" => "(the database cannot read the reason)")]
    expect(tasker("show", damaged.id)).to match [0, /unreadable +the database cannot read: tags, events/, ""]
  end

  it "end a command that needs them with one sentence" do
    sentence = /\Atasker: [^\n]* cannot be read by the database: invalid page in block 7; see "Damaged rows"[^\n]*\n\z/
    with_unreadable_list { expect(tasker("list")).to match [1, "", sentence] }
  end
end
