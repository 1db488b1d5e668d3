# frozen_string_literal: true

# Findings in installations that have the problem.
RSpec.describe TaskerCore::Doctor do
  let(:connection) { ActiveRecord::Base.connection }

  def findings(**options) = described_class.new(**options).findings

  # The findings of one check.
  def found(check, **options) = findings(**options).select { _1.check == check }

  def only(check, **options)
    expect(found(check, **options).size).to eq 1
    found(check, **options).first
  end

  def configuration(**sections) = TaskerCore.config.with(sections)

  def ask_for(expression) = connection.uncached { connection.select_value("select tasker_core_v1.#{expression}") }

  def process(queues: ["*"], timeout: 600)
    entry = { name: "worker-0", hostname: "box", pid: 12, queues: queues, heartbeat_timeout_ms: timeout * 1000,
              lease_grace_ms: 1000 }
    ask_for("register_process('#{JSON.generate(entry)}')")
  end

  # With the database's clock moved forward, for the session.
  def after(seconds)
    connection.execute("set tasker_core.clock_offset = '#{seconds} seconds'")
    yield
  ensure
    connection.execute("reset tasker_core.clock_offset")
  end

  # With Active Record on another database.
  def connected_to(url)
    ActiveRecord::Base.establish_connection(url)
    yield
  ensure
    ActiveRecord::Base.establish_connection(ENV.fetch("DATABASE_URL"))
  end

  it "finds a prepared installation with a live worker in order" do
    with_worker do
      expect(findings.reject(&:ok?)).to eq []
      expect(findings.map(&:check))
        .to eq %w[settings versions database schema connections clock listening workers queues jobs stuck
                  invariants subscriptions workflows retention]
      expect(findings.map(&:remedy)).to all(be_nil)
      expect(findings.map(&:explanation))
        .to include(/the database #{TEST_DATABASE} is reachable \(PostgreSQL \d+/, /\A1 live worker, /,
                    /notifications from the application reach the workers' address/)
      expect(described_class.new).to be_ok
    end
  end

  it "prints each finding with its remedy, as text and JSON" do
    finding = only("retention", configuration: configuration(retention: { enabled: false }))
    expect(finding.to_h).to eq(check: "retention", severity: "warning",
                               explanation: "retention.enabled is false: ended tasks are never removed, and the " \
                                            "tables grow",
                               remedy: "set `retention.enabled: true` in config/tasker-core.yaml, or run " \
                                       "`tasker prune` regularly")
    expect(finding.to_s).to start_with "warning: retention: retention.enabled is false"
  end

  it "finds invalid settings and still runs independent checks" do
    broken = findings(configuration: configuration(execution: { thread: 3 }))
    expect(broken.find { _1.check == "settings" })
      .to have_attributes(severity: "error", explanation: /execution.thread: 3 \(integer\) is an unknown setting/,
                          remedy: /`tasker config check`/)
    expect(broken.map(&:check)).to eq %w[settings versions database schema]
  end

  it "finds an unreachable database and reports it once" do
    away = connected_to("postgresql:///nowhere?host=/nonexistent&user=stranger") { findings }
    expect(away.reject(&:ok?))
      .to match [an_object_having_attributes(check: "database", severity: "error",
                                             remedy: /check that the server runs/)]
    expect(away.map(&:check)).to eq %w[settings versions database workflows retention]
  end

  it "finds an extension built for another version of the gem" do
    expect(TaskerCore::Bridge.version).to eq TaskerCore::VERSION
    stub_const("TaskerCore::VERSION", "9.9.9")
    expect(found("versions").sole)
      .to have_attributes(
        severity: "error", explanation: /the extension was built for tasker_core 0\..*the gem is 9.9.9/,
        remedy: /gem pristine tasker_core/
      )
  end

  it "finds a json gem that Active Support cannot use" do
    allow(ActiveSupport::JSON).to receive(:decode).and_raise(ArgumentError, "unknown keyword: :quirks_mode")
    expect(found("versions").sole)
      .to have_attributes(severity: "error", explanation: /cannot read JSON with json \d/,
                          remedy: /gem "json", "< 3"` to the Gemfile, or use Rails 7.2.4, or 8.1/)
  end

  it "finds missing or outdated tables and functions" do
    TaskerCore::Development::Database.temporary(SERVER_URL, "tasker_core_bare") do |url|
      empty = connected_to(url) { found("schema").first }
      expect(empty).to have_attributes(severity: "error",
                                       explanation: /tables .* are missing in the database tasker_core_bare/,
                                       remedy: "run `bin/rails g tasker_core:update` and `bin/rails db:migrate`")
    end
    connection.execute("comment on schema tasker_core_v1 is 'an older set'")
    expect(only("schema"))
      .to have_attributes(severity: "error", remedy: "run `bin/rails tasker_core:functions:install`")
    expect(found("workers")).to eq []
  ensure
    TaskerCore::Postgres::Functions.install!(connection)
  end

  it "finds an Active Record pool that is too small" do
    size = TaskerCore::ApplicationRecord.connection_pool.size
    expect(only("connections", configuration: configuration(execution: { threads: size }))).to be_ok
    expect(only("connections", configuration: configuration(execution: { threads: size + 1 })))
      .to have_attributes(severity: "warning",
                          explanation: /pool has #{size} connections, but a worker process needs #{size + 1}/,
                          remedy: "set `pool: #{size + 1}` in config/database.yml, or lower execution.threads")

    stub_const("Bookkeeper", Class.new(TaskerCore::Subscriber) { durable "bookkeeper" })
    subscribed = only("connections", configuration: configuration(execution: { threads: size }))
    expect(subscribed.explanation).to match(/needs #{size + 1}, for #{size} threads and 1 durable subscription/)
    expect(only("connections",
                configuration: configuration(execution: { threads: size }, subscriptions: { deliver: false }))).to be_ok
  ensure
    Bookkeeper.unsubscribe
  end

  it "finds more connections than the server allows" do
    allowed = connection.select_value("show max_connections").to_i
    many = only("connections", configuration: configuration(execution: { processes: 100, threads: 1 }))
    expect(many).to have_attributes(
      severity: "error",
      explanation: /\A100 worker processes may open 700 connections, but PostgreSQL allows only #{allowed - 3}\z/,
      remedy: /max_connections/
    )
    connection.execute("alter database #{TEST_DATABASE} connection limit 6")
    expect(only("connections", configuration: configuration(execution: { threads: 1 })))
      .to have_attributes(severity: "error", explanation: /may open 7 connections, but PostgreSQL allows only 6/)
  ensure
    connection.execute("alter database #{TEST_DATABASE} connection limit -1")
  end

  it "finds a clock that differs from the database's" do
    expect(only("clock")).to be_ok
    after(5) do
      expect(only("clock")).to have_attributes(
        severity: "warning", explanation: /this machine's clock is (4\.[5-9]|5) s behind the database's/, remedy: /NTP/
      )
    end
    after(-5) { expect(only("clock").explanation).to match(/is (4\.[5-9]|5(\.[1-5])?) s ahead of the database's/) }
    after(0.5) { expect(only("clock")).to be_ok }
  end

  describe "listening" do
    let(:other_database) { TaskerCore::Postgres::Address.current.merge(database: "postgres") }

    it "finds that notices do not reach the workers' address" do
      expect(only("listening", database: other_database))
        .to have_attributes(severity: "error", explanation: /no notification arrived within 2 s/,
                            remedy: /`database.poll_only: true`/)
    end

    it "finds that the workers' address is unreachable" do
      expect(only("listening", database: other_database.merge(database: "nowhere")))
        .to have_attributes(severity: "error", explanation: /database "nowhere" does not exist/,
                            remedy: /`database.poll_only: true`/)
    end

    it "is not required for workers that poll" do
      finding = only("listening", database: other_database, configuration: configuration(database: { poll_only: true }))
      expect(finding).to have_attributes(severity: "ok", explanation: /poll_only is set: workers poll every 200 ms/)
    end

    it "is skipped in a transaction, where it cannot succeed" do
      connection.transaction do
        expect(only("listening")).to have_attributes(severity: "warning", explanation: /cannot run in a transaction/)
      end
    end
  end

  it "finds missing and silent workers" do
    expect(only("workers"))
      .to have_attributes(severity: "warning", explanation: /there is no live worker/,
                          remedy: "start a worker: `tasker work`")
    process(timeout: 20)
    expect(only("workers")).to be_ok
    after(3600) do
      expect(found("workers").map(&:explanation))
        .to match [/no live worker/, /the worker worker-0 \(pid 12 on box\) has been silent for 60 min/]
      process
      expect(only("workers"))
        .to have_attributes(severity: "warning", explanation: /silent/,
                            remedy: /sweeps of other workers recover its steps\z/)
    end
  end

  it "finds unserved and slow queues" do
    Relay.create!(card: "1")
    2.times { Diamond.create!(n: 1) }
    process(queues: %w[default])
    expect(only("queues")).to have_attributes(
      severity: "error", explanation: /no live worker serves the queue relay_start: 1 step is ready, the oldest for/,
      remedy: "start a worker for it (`tasker work --queues relay_start`), or add it to the workers' execution.queues"
    )
    process(queues: ["*"])
    expect(only("queues"))
      .to have_attributes(severity: "ok",
                          explanation: /\Aevery queue with ready steps has live workers: default, relay_start/)
    after(400) do
      expect(found("queues").map { [_1.severity, _1.explanation] })
        .to match [["warning", /the queue default do not keep up: 2 steps are ready, one of them for 6 min/],
                   ["warning", /relay_start/]]
    end
  end

  it "finds expired leases and overdue waiting steps" do
    Slow.create!(directory: "none")
    ask_for("claim_steps(#{process}, '{*}', 1)::text")
    Diamond.set(wait_until: 80.seconds.from_now).create!(n: 1)
    slow = { configuration: configuration(maintenance: { sweep_interval: "30s" }) }
    expect(only("stuck", **slow)).to be_ok
    after(90) do
      expect(found("stuck", **slow).map(&:explanation)).to eq ["1 step is still claimed after the lease expired"]
    end
    after(200) do
      expect(found("stuck", **slow).map(&:explanation))
        .to match [/lease/, /\A1 step is due but still waiting, the first for 2 min/]
      expect(found("stuck", **slow).map(&:remedy)).to all(match(/the next sweeps \(every 30 s in each worker\)/))
    end
    after(1000) { expect(found("stuck", **slow).map(&:remedy)).to eq ["start a worker: `tasker work`"] * 2 }
  end

  it "finds steps that wait for a repair" do
    damage(Diamond.create!(n: 1))
    claim_bare(process)
    expect(only("stuck")).to have_attributes(severity: "warning",
                                             explanation: "1 step cannot be read by the database and is set aside",
                                             remedy: /`tasker list --status waiting_for_repair`/)
  end

  it "finds broken tasks and names the first five" do
    tasks = Diamond.create_all!([{ n: 1 }] * 7)
    connection.execute("delete from tasker_ready_steps")
    errors = found("invariants")
    expect(errors.map(&:severity).uniq).to eq ["error"]
    expect(errors.first)
      .to have_attributes(explanation: /\Atask #{tasks.first.id}: /, remedy: /`tasker audit --repair`/)
    expect([errors.size, errors.last.explanation]).to match [6, /\A\d+ more findings\z/]
  end

  it "finds failing and undelivered durable subscriptions" do
    ask_for("register_subscriptions('[{\"name\":\"ledger\",\"events\":[\"task.created\"]}]')::text")
    expect(only("subscriptions"))
      .to have_attributes(severity: "ok", explanation: "1 durable subscription, none failing")
    Diamond.create!(n: 1)
    expect(only("subscriptions")).to be_ok
    after(100) do
      expect(only("subscriptions"))
        .to have_attributes(severity: "warning", explanation: /\A\d+ events? of ledger waits?, the oldest for \d+ s/,
                            remedy: /`tasker subscriptions drop ledger`/)
    end
    connection.execute("update tasker_subscriptions set failures = 3, last_error = '{\"class\": \"E\", " \
                       "\"message\": \"no ink\"}'")
    expect(only("subscriptions")).to have_attributes(
      severity: "error", explanation: "the next event of ledger has failed 3 times, with E: no ink",
      remedy: /`tasker subscriptions skip ledger --reason TEXT`/
    )
  end

  describe "declared workflows" do
    before { allow(TaskerCore).to receive(:workflows).and_return(TaskerCore::Workflows::Registry.new) }

    it "finds undefined handlers in classes and files" do
      stub_const("Unhandled", Class.new(TaskerCore::Workflow) do
        workflow_name "unhandled"
        step :pay, handler: "NowhereDefined"
      end)
      TaskerCore.workflows.declare("Unhandled")
      Dir.mktmpdir do |directory|
        File.write("#{directory}/odd.yaml",
                   "name: odd\nsteps: [{ name: a, handler: Square }, { name: b, handler: Misspelt }]\n")
        TaskerCore.workflows.load_file("#{directory}/odd.yaml")
        expect(found("workflows").map { [_1.severity, _1.explanation] }).to eq [
          ["error", "Unhandled: step pay: handler \"NowhereDefined\" is not defined in this process"],
          ["error", "#{directory}/odd.yaml: step b: handler \"Misspelt\" is not defined in this process"]
        ]
        expect(found("workflows").first.remedy).to include "define `class NowhereDefined < TaskerCore::StepHandler`"
      end
    end

    it "finds one that cannot be compiled and checks the others" do
      stub_const("Methodless", Class.new(TaskerCore::Workflow) { step :a })
      TaskerCore.workflows.declare("Methodless")
      TaskerCore.workflows.declare("Diamond")
      expect(only("workflows"))
        .to have_attributes(severity: "error", explanation: /step a of Methodless has no handler/,
                            remedy: "correct the declaration")
    end
  end

  it "turns an error of a check into a finding" do
    connection.execute("alter table tasker_subscriptions rename to tasker_subscriptions_elsewhere")
    expect(only("subscriptions"))
      .to have_attributes(severity: "error",
                          explanation: /\Athe check failed: ActiveRecord::StatementInvalid: .*tasker_subscriptions/)
    expect(findings.last.check).to eq "retention"
  ensure
    connection.execute("alter table tasker_subscriptions_elsewhere rename to tasker_subscriptions")
  end
end
