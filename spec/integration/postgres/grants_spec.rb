# frozen_string_literal: true

require "open3"

# A role that owns nothing and has only the documented grants.
RSpec.describe TaskerCore::Postgres::Grants do
  let(:connection) { ActiveRecord::Base.connection }

  around do |example|
    connection.execute("create role plain login; create role reader login")
    example.run
  ensure
    connection.execute("drop owned by plain, reader; drop role plain, reader")
  end

  def grant(role, **options) = connection.execute(described_class.new(connection, role, **options).statements.join)

  # Runs a script as another role, in another process.
  def as(role, script)
    url = ENV.fetch("DATABASE_URL").sub(/user=\w+/, "user=#{role}")
    script = "require './spec/dummy/config/environment'; begin; #{script}; rescue StandardError => e; puts " \
             "e.class, e.message; end"
    Open3.capture2e({ "DATABASE_URL" => url, "RAILS_ENV" => "production" }, "bundle", "exec", "ruby", "-Ilib", "-e",
                    script, chdir: root).first
  end

  it "let a role without ownership create, run and prune tasks" do
    grant("plain")
    expect(as("plain", <<~RUBY)).to eq "complete cancelled 1 0\n"
      chores = { retention: { interval: "1s" }, maintenance: { sweep_interval: "1s", audit_interval: "1s" } }
      worker = TaskerCore::Worker.new(configuration: TaskerCore.config.with(chores)).start
      done = Diamond.create!(n: 2).wait(timeout: 120)
      task = Diamond.set(wait_until: 1.hour.from_now).create!(n: 2)
      task.cancel!(reason: "why", by: "ada")
      TaskerCore::Postgres::Functions.call(ActiveRecord::Base.connection, :prune, 1, nil, 100, false)
      Timeout.timeout(120) { sleep 0.01 until worker.health[:broken].zero? }
      worker.stop(timeout: 5)
      audit = TaskerCore::Postgres::Functions.call(ActiveRecord::Base.connection, :audit, 0, 100)
      puts [done.state, task.reload.state, TaskerCore::Task.where(id: done.id).count, audit["findings"].size].join(" ")
    RUBY
  end

  it "let a read-only role see everything and change nothing" do
    grant("reader", read_only: true)
    task = Diamond.create!(n: 2)
    out = as("reader", <<~RUBY)
      task = TaskerCore::Task.find(#{task.id})
      puts task.state, task.steps.size, TaskerCore::Operations::Health.new.stats.size.positive?
      task.cancel!(reason: "why", by: "ada")
    RUBY
    expect(out).to match(/\Apending\n4\ntrue\n.*permission denied for table/m)
    expect(task.reload.state).to eq "pending"
  end

  it "are printed by a rake task as documented" do
    statements = described_class.new(connection, "app").statements
    documented = File.read("#{root}/docs/operations.md")
    expect(statements.size).to eq 4
    expect(documented).to include("grant usage on schema public, tasker_core_v1 to app;",
                                  "grant execute on all functions in schema tasker_core_v1 to app;")
    expect(statements)
      .to include("grant usage on schema public, tasker_core_v1 to app;",
                  "grant execute on all functions in schema tasker_core_v1 to app;")
    out, status = Open3.capture2e({ "RAILS_ENV" => "test" }, "bundle", "exec", "rake", "-f",
                                  "#{root}/spec/dummy/Rakefile", "tasker_core:grants[app]", chdir: root)
    expect([status.success?, out]).to eq [true, statements.map { |statement| "#{statement}\n" }.join]
    { "app,raed" => "raed", "app,read,all" => "all" }.each do |arguments, surplus|
      out, status = Open3.capture2e({ "RAILS_ENV" => "test" }, "bundle", "exec", "rake", "-f",
                                    "#{root}/spec/dummy/Rakefile", "tasker_core:grants[#{arguments}]", chdir: root)
      expect([status.success?, out])
        .to eq [false, "tasker_core:grants: #{surplus}: expected [ROLE] or [ROLE,read]\n"]
    end
    expect { described_class.new(connection, " ") }.to raise_error(TaskerCore::ConfigurationError, /role/)
  end
end
