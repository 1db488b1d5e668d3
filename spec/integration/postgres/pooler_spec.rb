# frozen_string_literal: true

# Workers behind a real PgBouncer, whose clients share few server connections.
RSpec.describe "A connection pooler" do
  def start(url, **sections)
    configuration = TaskerCore.config.with({ execution: { threads: 2 } }.deep_merge(sections))
    worker = TaskerCore::Worker.new(configuration: configuration, database: { url: url }, name: "pooled").start
    yield worker
  ensure
    worker&.stop(timeout: 5)
  end

  def through(url, processes:, &block)
    variables = { "DATABASE_URL" => url, "TASKER_CORE__DATABASE__POLL_ONLY" => "true",
                  "TASKER_CORE__MAINTENANCE__SWEEP_INTERVAL" => "50ms" }
    with_worker_processes(processes: processes, variables: variables, &block)
  end

  # Runs tasks in four processes; expects this result of their last step.
  def run_tasks(url, workflow, inputs, &result)
    through(url, processes: 4) do |_, log|
      tasks = workflow.create_all!(inputs)
      eventually(within: 180) { ActiveRecord::Base.uncached { TaskerCore::Task.where(id: tasks, ended_at: nil).none? } }
      expect(tasks.map { |task| [task.reload.state, task.steps.last.result] })
        .to eq(inputs.map { |input| ["complete", result.call(input)] })
      expect(File.read(log)).not_to match(/died|error/i)
    end
  end

  # Makes a pooler open its server connections.
  def open_all(url)
    clients = Array.new(3) { PG.connect(url).tap { |client| client.send_query("select pg_sleep(0.02)") } }
    clients.each { |client| client.get_last_result && client.close }
  end

  def skip_if_too_old
    yield
  rescue Chaos::Pooler::Unavailable => e
    skip e.message
  end

  it "in transaction mode serves workers in poll-only mode" do
    inputs = Array.new(100) { |n| { n: n } }
    Pooler.run do |url|
      run_tasks("#{url}&prepared_statements=false", Far, inputs) { |input| { "n" => input[:n] } }
    end
  end

  it "that renames prepared statements permits Active Record to prepare them" do
    skip_if_too_old do
      Pooler.run(prepared_statements: 100) do |url|
        run_tasks(url, Lookup, Array.new(100) { {} }) { { "state" => "pending" } }
      end
    end
  end

  it "does not change the configured time-outs" do
    task = Diamond.create!(n: 2)
    Pooler.run do |url|
      start(url, database: { poll_only: true, lock_timeout: "100ms" }, execution: { queues: ["none"] }) do |worker|
        ActiveRecord::Base.transaction do
          task.lock!
          expect { worker.task(task.id).cancel!(reason: "why", by: "ada") }
            .to raise_error(TaskerCore::DatabaseError, /lock timeout/)
        end
      end
      PG.connect(url).then do |pooled|
        expect(pooled.exec("show lock_timeout").getvalue(0, 0)).to eq "0"
        pooled.close
      end
    end
  end

  { "that has one connection" => { default_pool_size: 1 }, "that has some" => { default_pool_size: 4 },
    "whose connections take turns" => { default_pool_size: 4, server_round_robin: 1,
                                        min_pool_size: 3 } }.each do |which, settings|
    it "#{which} rejects workers without poll-only mode" do
      Pooler.run(**settings) do |url|
        open_all(url)
        expect { start(url) { nil } }
          .to raise_error(TaskerCore::ConfigurationError,
                          /database\.poll_only: false .*transaction pooler.*set `database\.poll_only: true`/)
      end
    end
  end

  it "in session mode works like a direct connection" do
    Pooler.run(pool_mode: "session", default_pool_size: 10) do |url|
      start(url) do |worker|
        expect(Diamond.create!(n: 2).wait(timeout: 120).state).to eq "complete"
        eventually { worker.health[:listening] }
      end
    end
  end

  it "that rejects an address parameter is named with a remedy" do
    Pooler.run(pool_mode: "session") do |url|
      expect { start("#{url}&options=-c%20work_mem%3D5MB") { nil } }
        .to raise_error(
          TaskerCore::ConfigurationError,
          /\Athe configuration cannot be used: options: a pooler .*`variables`.*`database\.poll_only: true`/
        )
    end
  end
end
