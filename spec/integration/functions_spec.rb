# frozen_string_literal: true

require "open3"

# Installing the SQL functions, and what a database without them is told.
RSpec.describe TaskerCore::Functions do
  # A database of its own beside the tests', in another process.
  def in_database(name, &) = TaskerCore::Development::Database.temporary(SERVER_URL, name, &)

  def rake(url, *tasks, environment: "test", **settings)
    env = { "DATABASE_URL" => url, "RAILS_ENV" => environment, "VERBOSE" => "false", **settings.transform_keys(&:to_s) }
    output, status = Open3.capture2e(env, "bundle", "exec", "rake", "-f", "#{root}/spec/dummy/Rakefile", *tasks, chdir: root)
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
      TaskerCore::FunctionsMissingError, %r{in the database tasker_core_test: run `bin/rails tasker_core:functions:install`}
    )
    described_class.install!(connection)
    expect(described_class.installed?(connection)).to be true
    expect(installed.call).not_to eq before
  end

  it "are there after a schema load and a test preparation of an application that keeps schema.rb" do
    Dir.mktmpdir do |directory|
      schema = "#{directory}/schema.rb"
      in_database("tasker_core_schema") do |url|
        rake(url, "db:migrate", SCHEMA: schema)
        expect(ask(url, "select obj_description(to_regnamespace('tasker_core_v1'), 'pg_namespace')")).to start_with "tasker_core "
      end
      expect(File.read(schema)).to include('create_table "tasker_ready_steps"').and not_include("tasker_core_v1")
      in_database("tasker_core_schema") do |url|
        rake(url, "db:schema:load", SCHEMA: schema)
        expect(ask(url, "select tasker_core_v1.register_process('{\"name\":\"x\",\"hostname\":\"x\",\"pid\":1,\"queues\":[\"*\"]," \
                        "\"heartbeat_timeout_ms\":1000,\"lease_grace_ms\":1000}')")).to eq "1"
        expect(ask(url, "select column_default from information_schema.columns where table_name = 'tasker_ready_steps' and " \
                        "column_name = 'seq'")).to start_with "nextval"
        expect(ask(url, "select reloptions::text from pg_class where relname = 'tasker_workflow_steps'")).to eq "{fillfactor=40}"
      end
      in_database("tasker_core_schema") do |url|
        rake(url, "db:test:prepare", SCHEMA: schema)
        expect(ask(url, "select count(*) from pg_proc where pronamespace = to_regnamespace('tasker_core_v1')").to_i).to be > 15
      end
    end
  end

  it "are asked for by name in production" do
    in_database("tasker_core_empty") do |url|
      script = "begin; TaskerCore::Worker.new.start; rescue TaskerCore::Error => e; puts e.class, e.message; end"
      run = lambda do
        Open3.capture2e({ "DATABASE_URL" => url, "RAILS_ENV" => "production" }, "bundle", "exec", "ruby", "-Ilib", "-e",
                        "require './spec/dummy/config/environment'; #{script}", chdir: root).first
      end
      expect(run.call).to match(/FunctionsMissingError.*tables of tasker_core are missing in the database tasker_core_empty/m)
      rake(url, "db:migrate", SCHEMA: "#{Dir.tmpdir}/unused_schema.rb")
      PG.connect(url).tap { |pg| pg.exec("set client_min_messages = warning; drop schema tasker_core_v1 cascade") }.close
      expect(run.call).to match(%r{FunctionsMissingError.*run `bin/rails tasker_core:functions:install`}m)
      rake(url, "tasker_core:functions:install", environment: "production")
      expect(run.call).to eq ""
    end
  end

  it "refuse with typed errors that carry the facts" do
    expect { described_class.call(connection, :cancel_task, 4711, "why", "ada") }
      .to raise_error(TaskerCore::TaskNotFoundError, "there is no task 4711") { |error| expect(error.facts).to eq("task" => 4711) }
    task = Diamond.create!(n: 2)
    expect(described_class.call(connection, :cancel_task, task.id, "why", "ada")).to eq "cancelled"
    expect(task.execution_status).to eq "cancelled"
    expect { described_class.call(connection, :cancel_task, task.id, "why", "ada") }
      .to raise_error(TaskerCore::TransitionError, /is cancelled: only a task that has not ended can be cancelled/)
  end

  it "say what is wrong when the database is away" do
    TaskerCore::ApplicationRecord.establish_connection("postgresql:///x?host=/nowhere&user=postgres")
    expect { Diamond.create!(n: 2) }.to raise_error(TaskerCore::DatabaseError, /the database cannot be used/)
  ensure
    TaskerCore::ApplicationRecord.remove_connection
  end
end

RSpec::Matchers.define_negated_matcher :not_include, :include
