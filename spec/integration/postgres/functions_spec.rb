# frozen_string_literal: true

require "open3"

# Installation of the SQL functions, and errors of a database without them.
RSpec.describe TaskerCore::Postgres::Functions do
  # A database of its own, for another process.
  def in_database(name, &) = TaskerCore::Development::Database.temporary(SERVER_URL, name, &)

  def rake(url, *tasks, environment: "test", **settings)
    env = { "DATABASE_URL" => url, "RAILS_ENV" => environment, "VERBOSE" => "false", **settings.transform_keys(&:to_s) }
    output, status = Open3.capture2e(env, "bundle", "exec", "rake", "-f", "#{root}/spec/dummy/Rakefile", *tasks,
                                     chdir: root)
    raise output unless status.success?

    output
  end

  def ask(url, sql)
    connection = PG.connect(url)
    connection.exec(sql).getvalue(0, 0)
  ensure
    connection&.close
  end

  let(:connection) { ActiveRecord::Base.connection }

  it "are installed once, and again when the set has changed" do
    installed = -> { connection.select_value("select oid from pg_namespace where nspname = 'tasker_core_v1'") }
    before = installed.call
    described_class.install!(connection)
    expect(installed.call).to eq before

    connection.execute("comment on schema tasker_core_v1 is 'an older set'")
    expect(described_class.installed?(connection)).to be false
    expect { described_class.verify!(connection) }.to raise_error(
      TaskerCore::FunctionsMissingError,
      %r{in the database #{TEST_DATABASE}: run `bin/rails tasker_core:functions:install`}
    )
    described_class.install!(connection)
    expect(described_class.installed?(connection)).to be true
    expect(installed.call).to eq before
  end

  it "are replaced under a running worker" do
    with_worker do
      Diamond.create!(n: 2).wait(timeout: 120)
      connection.execute("comment on schema tasker_core_v1 is 'an older set'")
      described_class.install!(connection)
      expect(Diamond.create!(n: 2).wait(timeout: 120).state).to eq "complete"
    end
  end

  it "exist after db:schema:load and db:test:prepare" do
    Dir.mktmpdir do |directory|
      schema = "#{directory}/schema.rb"
      in_database("tasker_core_schema") do |url|
        rake(url, "db:migrate", SCHEMA: schema)
        expect(ask(url, "select obj_description(to_regnamespace('tasker_core_v1'), 'pg_namespace')"))
          .to start_with "tasker_core "
      end
      expect(File.read(schema)).to include('create_table "tasker_ready_steps"').and not_include("tasker_core_v1")
      in_database("tasker_core_schema") do |url|
        rake(url, "db:schema:load", SCHEMA: schema)
        entry = JSON.generate(name: "x", hostname: "x", pid: 1, queues: ["*"], heartbeat_timeout_ms: 1000,
                              lease_grace_ms: 1000)
        expect(ask(url, "select tasker_core_v1.register_process('#{entry}')").to_i).to be_positive
        expect(ask(url, "select column_default from information_schema.columns where table_name = " \
                        "'tasker_ready_steps' and " \
                        "column_name = 'seq'")).to start_with "nextval"
        expect(ask(url, "select reloptions::text from pg_class where relname = 'tasker_workflow_steps'"))
          .to eq "{fillfactor=40}"
      end
      in_database("tasker_core_schema") do |url|
        rake(url, "db:test:prepare", SCHEMA: schema)
        expect(ask(url, "select count(*) from pg_proc where pronamespace = to_regnamespace('tasker_core_v1')").to_i)
          .to be > 15
      end
    end
  end

  it "are not installed automatically in production" do
    in_database("tasker_core_empty") do |url|
      script = "begin; TaskerCore::Worker.new.start; rescue TaskerCore::Error => e; puts e.class, e.message; end"
      run = lambda do
        Open3.capture2e({ "DATABASE_URL" => url, "RAILS_ENV" => "production" }, "bundle", "exec", "ruby", "-Ilib", "-e",
                        "require './spec/dummy/config/environment'; #{script}", chdir: root).first
      end
      missing = "tables of tasker_core are missing in the database tasker_core_empty"
      expect(run.call).to match(%r{FunctionsMissingError.*#{missing}: run `bin/rails g tasker_core:update`}m)
      rake(url, "db:migrate", SCHEMA: "#{Dir.tmpdir}/unused_schema.rb")
      PG.connect(url) { |pg| pg.exec("set client_min_messages = warning; drop schema tasker_core_v1 cascade") }
      expect(run.call).to match(%r{FunctionsMissingError.*run `bin/rails tasker_core:functions:install`}m)
      rake(url, "tasker_core:functions:install", environment: "production")
      expect(run.call).to eq ""
    end
  end

  it "raise typed errors with facts" do
    expect { described_class.call(connection, :cancel_task, 4711, "why", "ada") }
      .to raise_error(TaskerCore::TaskNotFoundError,
                      "there is no task 4711") { |error| expect(error.facts).to eq("task" => 4711) }
    task = Diamond.create!(n: 2)
    expect(described_class.call(connection, :cancel_task, task.id, "why", "ada")).to eq("state" => "cancelled")
    expect(task.execution_status).to eq "cancelled"
    expect { described_class.call(connection, :cancel_task, task.id, "why", "ada") }
      .to raise_error(TaskerCore::TransitionError, /is cancelled: only a task that has not ended can be cancelled/)
  end

  describe "called on the application's connection" do
    def call(name, *arguments) = described_class.call(connection, name, *arguments)

    # Claims what is ready and finishes it, with a known outcome and duration.
    def finish(process, task, seconds: 1, outcome: "completed", result: { by: "hand" }, **fields)
      claim = claim_all(process).find { _1["task_id"] == task.id }
      fields = fields.merge(**key(claim), outcome: outcome, result: result, waited_us: 0,
                                          ran_us: (seconds * 1_000_000).to_i)
      ask_for("tasker_core_v1.finish_steps(#{process}, #{connection.quote(JSON.generate([fields]))}, 0)::text")
      claim
    end

    # The columns that identify a claim.
    def key(claim) = claim.slice("token", "task_id", "position", "attempt")

    def claim_all(process) = JSON.parse(ask_for("tasker_core_v1.claim_steps(#{process}, '{*}', 100)::text"))

    def ask_for(expression) = connection.uncached { connection.select_value("select #{expression}") }

    def rows(sql) = connection.uncached { connection.select_all(sql) }.to_a

    def process
      entry = { name: "n", hostname: "h", pid: 1, queues: ["*"], heartbeat_timeout_ms: 60_000, lease_grace_ms: 60_000 }
      ask_for("tasker_core_v1.register_process('#{JSON.generate(entry)}')")
    end

    # Everything of a task that is visible from outside, to detect changes.
    def whole(task)
      [rows("select * from tasker_tasks where id = #{task.id}"),
       rows("select * from tasker_core_v1.step_states(array[#{task.id}])"),
       rows("select * from tasker_task_events where task_id = #{task.id}"),
       rows("select * from tasker_ready_steps where task_id = #{task.id}")]
    end

    def failed_task
      task = Repairable.create!
      worker = process
      finish(worker, task)
      finish(worker, task, outcome: "failed", result: nil, error: { class: "E", message: "no" }, retryable: false)
      task
    end

    # For each function that changes something: a suitable task, the call's arguments and its result.
    let(:changes) do
      why = ["it's \"why\"", "ada"]
      {
        cancel_task: [-> { Diamond.create!(n: 2) }, ->(id) { [id, *why] }, { "state" => "cancelled" }],
        resolve_task: [-> { failed_task }, ->(id) { [id, *why] }, { "state" => "resolved_manually" }],
        retry_task: [-> { failed_task }, ->(id) { [id, *why] }, a_hash_including("state" => "ready", "steps" => 1)],
        retry_step: [-> { failed_task }, ->(id) { [id, 1, *why] }, a_hash_including("state" => "ready")],
        resolve_step: [-> { failed_task }, ->(id) { [id, 1, *why] },
                       a_hash_including("state" => "resolved_manually", "ready_queues" => ["default"])],
        complete_step: [-> { failed_task }, ->(id) { [id, 1, '{"it\'s": "ü"}', *why] },
                        a_hash_including("state" => "complete")],
        update_result: [-> { failed_task }, ->(id) { [id, 0, '{"n": 123456789012345678901234567890}', *why] },
                        { "state" => "complete" }],
        release_step: [-> { Diamond.create!(n: 2).tap { claim_all(process) } },
                       ->(id) { [id, 0, *why] },
                       { "state" => "ready", "ready_queues" => ["default"] }],
        repair_task: [-> { Diamond.create!(n: 2) }, ->(id) { [id, *why] },
                      a_hash_including("state" => "pending", "removed" => 1)]
      }
    end

    it "act in the caller's transaction" do
      changes.each do |name, (create, arguments, expected)|
        task = create.call
        before = whole(task)
        ActiveRecord::Base.transaction do
          expect(call(name, *arguments.call(task.id))).to match(expected), name.to_s
          expect(whole(task)).not_to eq before
          raise ActiveRecord::Rollback
        end
        expect(whole(task)).to eq(before), "#{name} was undone"
        ActiveRecord::Base.transaction { call(name, *arguments.call(task.id)) }
        expect(whole(task)).not_to eq(before), "#{name} was committed"
        expect(rows("select actor, reason from tasker_task_events where task_id = #{task.id}"))
          .to eq [{ "actor" => "ada", "reason" => "it's \"why\"" }]
      end
      expect(call(:audit, 0, 1000)).to eq("findings" => [], "after" => nil)
    end

    it "keep results digit for digit" do
      task = failed_task
      call(:complete_step, task.id, 1, '{"it\'s": "ü", "n": 123456789012345678901234567890}', "why", "ada")
      expect(task.results["second"]).to eq("it's" => "ü", "n" => 123_456_789_012_345_678_901_234_567_890)
      results = { "first" => { "by" => "hand" }, "second" => task.results["second"] }
      expect(call(:ancestor_results, task.id, 2, nil, nil, nil)).to include("results" => results)
      expect(call(:task_input, task.id)).to eq task.input
    end

    it "explain a rejection and leave the savepoint usable" do
      task = Diamond.create!(n: 2)
      definition = JSON.parse(Diamond.compiled.definition_json)
      unknown = JSON.generate([{ namespace: "default", workflow: "diamond", version: "none", input: {} }])
      refusals = {
        [:register_workflow, JSON.generate(definition.merge("digest" => "0"))] =>
          [TaskerCore::WorkflowConflictError, "registered_digest", definition["digest"]],
        [:create_tasks, unknown] => [TaskerCore::UnknownWorkflowError, "version", "none"],
        [:resolve_step, task.id, 99, "why", "ada"] => [TaskerCore::TaskNotFoundError, "position", 99],
        [:retry_task, task.id, "why", "ada"] => [TaskerCore::TransitionError, "action", "retry"],
        [:resolve_task, task.id, "why", "ada"] => [TaskerCore::TransitionError, "state", "pending"],
        [:cancel_task, task.id, " ", "ada"] => [TaskerCore::InputError, "field", "reason"],
        [:cancel_task, task.id, "why", nil] => [TaskerCore::InputError, "field", "by"],
        [:complete_step, task.id, 0, "[1]", "why", "ada"] => [TaskerCore::InputError, "field", "result"]
      }
      before = whole(task)
      ActiveRecord::Base.transaction do
        refusals.each do |call, (error, fact, value)|
          ActiveRecord::Base.transaction(requires_new: true) do
            expect { call(*call) }
              .to raise_error(error) { |refusal| expect(refusal.facts[fact]).to eq(value), call.first.to_s }
            raise ActiveRecord::Rollback
          end
        end
        expect(whole(task)).to eq before
        call(:cancel_task, task.id, "why", "ada")
      end
      expect(task.state).to eq "cancelled"
    end

    it "remove, register and wake like the commands" do
      old = failed_task
      connection.execute("update tasker_tasks set uuid = tasker_core_v1.uuid_v7(now() - interval '9 days'), ended_at " \
                         "= now() - interval '9 days'")
      expect(call(:next_task, nil, nil, 5.days.to_f)).to eq("id" => old.id, "uuid" => old.reload.uuid)
      expect([call(:next_task, nil, nil, 10.days.to_f), call(:next_task, old.id, nil, nil)]).to eq [nil, nil]
      counted = call(:prune, 5.days.to_i, nil, 100, true)
      expect(counted)
        .to match("after" => nil,
                  "removed" => a_hash_including("tasks" => 1, "workflow_steps" => 3, "step_attempts" => 2))
      expect(TaskerCore::Task.exists?(old.id)).to be true
      expect(call(:prune, 5.days.to_i, nil, 100, false)).to eq counted
      expect(TaskerCore::Task.exists?(old.id)).to be false
      expect(call(:register_workflow, Repairable.compiled.definition_json)["id"])
        .to eq TaskerCore::WorkflowVersion.find_by!(name: "repairable").id
      expect(call(:create_tasks, "[]")).to eq []
      expect(call(:wake_workers, ["default"])).to eq 0
      idle = process
      ask_for("tasker_core_v1.claim_steps(#{idle}, '{*}', 1)::text")
      expect(call(:wake_workers, %w[default default other])).to eq 2
    end

    it "keep events until they are delivered to subscribers" do
      worker = process
      expect(call(:register_subscriptions, JSON.generate([{ name: "s", events: %w[order.shipped] }]))).to eq 1
      3.times do |n|
        expect(call(:store_events, JSON.generate([{ name: "order.shipped", payload: { "it's" => n } }]))).to eq 1
      end
      fetch = -> { call(:fetch_events, worker, "s", 2, true).then { |taken| taken if taken["events"].any? } }
      take = -> { eventually(&fetch) }
      first, second = take.call["events"]
      expect([first["name"], first["payload"], second["payload"]])
        .to eq ["order.shipped", { "it's" => 0 }, { "it's" => 1 }]
      policy = JSON.generate(backoff: "fixed", base_ms: 0, factor: 1, cap_ms: 0, jitter: 0)
      failed = ActiveRecord::Base.transaction do
        call(:ack_events, worker, "s", connection.select_value("select pg_current_xact_id()::text::bigint"),
             first["id"], '{"message": "no"}', policy)
      end
      expect(failed).to eq("failures" => 1, "delay_ms" => 0)
      expect(call(:skip_event, "s", "why", "ada")).to include("id" => second["id"])
      expect(take.call["events"].first["payload"]).to eq("it's" => 2)
      expect(call(:drop_subscription, "s")).to eq 1
    end

    it "serve a worker on this connection, as the testing kit does" do
      entry = { name: "n", hostname: "h", pid: 1, queues: ["*"], heartbeat_timeout_ms: 60_000, lease_grace_ms: 60_000 }
      worker = call(:register_process, JSON.generate(entry))
      task = Diamond.create!(n: 2)
      claim = call(:claim_steps, worker, ["*"], 1, nil).first
      expect(claim).to include("task_id" => task.id, "step" => "a", "attempt" => 1)
      expect(call(:heartbeat, worker, JSON.generate([key(claim), { token: -1 }])))
        .to include("known" => true, "revoked" => [-1])
      expect(call(:release_steps, worker, JSON.generate([key(claim)]), "0", "shutdown"))
        .to eq("ready_queues" => ["default"])
      claim = call(:claim_steps, worker, ["*"], 1, nil).first
      outcome = JSON.generate([{ **key(claim), outcome: "completed", result: { "it's" => "ü" } }])
      expect(call(:finish_steps, worker, outcome, 0)).to include("stale" => [], "ready_queues" => ["default"])
      expect(call(:sweep, worker, 10)).to include("due_steps" => 0, "lost_attempts" => 0)
      call(:claim_steps, worker, ["*"], 1, nil)
      expect(call(:deregister_process, worker)).to eq("ready_queues" => ["default"])
      expect(outline(task).first(2)).to eq [["a", "complete", 1], ["b", "ready", 0]]
    end

    it "find tasks, including uncommitted ones" do
      first = Diamond.create!(n: 2)
      ActiveRecord::Base.transaction do
        second = Diamond.set(tags: ["it's"]).create!(n: 2)
        expect(call(:find_tasks, "{}", nil, 10, 100)).to eq("task_ids" => [second.id, first.id], "next" => nil)
        expect(call(:find_tasks, '{"tags": ["it\'s"]}', nil, 10, 1))
          .to eq("task_ids" => [second.id], "next" => second.uuid)
        raise ActiveRecord::Rollback
      end
      expect(call(:find_tasks, "{}", nil, 10, 100)["task_ids"]).to eq [first.id]
    end

    it "return the task that a chore comes to next" do
      tasks = Diamond.create_all!([{ n: 2 }] * 2)
      expect(call(:next_task, tasks.first.id, nil, nil)).to eq("id" => tasks.last.id, "uuid" => tasks.last.uuid)
      first, second = tasks.sort_by(&:uuid)
      expect(call(:next_task, nil, first.uuid, nil)).to eq("id" => second.id, "uuid" => second.uuid)
      expect(call(:next_task, nil, nil, 3600)).to be_nil
    end

    it "return the counters of tasks that differ from the tasks" do
      Diamond.create!(n: 2)
      connection.execute("truncate tasker_counts")
      expect(call(:recount_tasks, true))
        .to match [include("workflow" => "diamond", "state" => "pending", "counted" => 0, "actual" => 1)]
    end

    it "count, when installed, the tasks that older functions have not counted" do
      Diamond.create!(n: 2)
      connection.execute("truncate tasker_counts")
      described_class.uninstall!(connection)
      described_class.install!(connection)
      expect(TaskerCore::Operations::Health.new.task_counts)
        .to match [include("workflow" => "diamond", "in_pending" => 1)]
    end

    it "are all called here" do
      source = File.read(__FILE__)
      missing = described_class.const_get(:ARGUMENTS).keys.reject { |name| source.match?(/(:|^\s+)#{name}\b/) }
      expect(missing).to eq []
    end

    describe "reporting on a known history" do
      # Two tasks took 10 and 30 s, in steps of 1, 2, 3 and 5, 6, 7 s; one task has failed; one waits.
      let!(:history) do
        worker = process
        [[10, [1, 2, 3]], [30, [5, 6, 7]]].map do |lasted, seconds|
          task = Repairable.create!
          seconds.each { |each| finish(worker, task, seconds: each) }
          connection.execute("update tasker_tasks set ended_at = created_at + interval '#{lasted} s' " \
                             "where id = #{task.id}")
          task
        end
      end
      let!(:failed) { failed_task }
      let!(:waiting) { Diamond.set(wait_until: 1.hour.from_now).create!(n: 2) }

      it "return steps, status and what blocks a step" do
        expect(rows("select name, state, attempts, pending_parents from " \
                    "tasker_core_v1.step_states(array[#{failed.id}]) order by position").map(&:values))
          .to eq [["first", "complete", 1, 0], ["second", "error", 1, 0], ["third", "pending", 0, 1]]
        expect(failed.execution_context).to include("state" => "error", "execution_status" => "blocked_by_failures",
                                                    "total_steps" => 3,
                                                    "completed_steps" => 1, "failed_steps" => 1, "ready_steps" => 0)
        expect(waiting.execution_context)
          .to include("state" => "pending", "execution_status" => "scheduled", "waiting_steps" => 1)
        readiness = rows("select name, may_run, blocked_by from tasker_core_v1.step_readiness(#{failed.id})")
        expect(readiness.map(&:values))
          .to eq [["first", false, "{}"], ["second", false, "{}"], ["third", false, "{second}"]]
        levels = rows("select name, level from tasker_core_v1.dependency_levels(#{waiting.workflow_version_id})")
        expect(levels.map(&:values)).to eq [["a", 0], ["b", 1], ["c", 1], ["d", 2]]
      end

      it "return medians, percentiles and the slowest" do
        row = rows("select * from tasker_core_v1.analytics(now() - interval '1 hour', 'default', 'repairable')")
        expect(row.size).to eq 1
        expect(row.first).to include("tasks" => 3, "complete" => 2, "error" => 1, "attempts" => 8,
                                     "attempts_completed" => 7, "attempts_failed" => 1,
                                     "task_seconds_p50" => 20.0, "task_seconds_p95" => 29.0,
                                     "attempt_seconds_p50" => 2.5)
        expect(row.first["attempt_seconds_p95"]).to be_within(1e-9).of(6.65)
        expect(rows("select workflow from tasker_core_v1.analytics(now() - interval '1 hour')").map(&:values))
          .to eq [["diamond"], ["repairable"]]
        expect(rows("select * from tasker_core_v1.analytics(now() + interval '1 hour')")).to eq []
        slowest = rows("select task_id, step, seconds from tasker_core_v1.slowest_steps(now() - interval '1 hour', 4)")
        expect(slowest.map(&:values)).to eq [[history[1].id, "third",
                                              7.0], [history[1].id, "second", 6.0], [history[1].id, "first", 5.0],
                                             [history[0].id, "third", 3.0]]
        slowest = rows("select task_id, steps, attempts, seconds from tasker_core_v1.slowest_tasks(now() - " \
                       "interval '1 hour', 2)")
        expect(slowest.map(&:values)).to eq [[history[1].id, 3, 3, 30.0], [history[0].id, 3, 3, 10.0]]
        health = rows("select * from tasker_core_v1.system_health()").first
        expect(health)
          .to include("ready_steps" => 0, "claimed_steps" => 0, "waiting_steps" => 1, "overdue_waiting_steps" => 0,
                      "processes" => 2)
      end
    end
  end

  it "report an unreachable database" do
    TaskerCore::ApplicationRecord.establish_connection("postgresql:///x?host=/nowhere&user=postgres")
    expect { Diamond.create!(n: 2) }.to raise_error(TaskerCore::DatabaseError, /the database cannot be used/)
  ensure
    TaskerCore::ApplicationRecord.remove_connection
  end
end

RSpec::Matchers.define_negated_matcher :not_include, :include
