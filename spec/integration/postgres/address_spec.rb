# frozen_string_literal: true

require "open3"

# Workers must reach what Active Record reaches, and nothing else.
RSpec.describe "A worker's connection" do
  def start(**overrides)
    worker = TaskerCore::Worker.new(database: { url: ENV.fetch("DATABASE_URL"), **overrides }, name: "elsewhere").start
    yield if block_given?
  ensure
    worker&.stop(timeout: 0)
  end

  def refuse_to_start(message, **overrides)
    expect { start(**overrides) }.to raise_error(TaskerCore::ConfigurationError, message)
  end

  around do |example|
    connection = ActiveRecord::Base.connection
    connection.execute("create schema tenant; create role clerk superuser")
    example.run
  ensure
    connection.execute("drop schema tenant; drop role clerk")
  end

  it "is rejected if schemas, role or database differ" do
    database = "does not reach the database of Active Record's"
    schemas = "the schemas of Active Record is {public}, the worker's"
    refuse_to_start(/#{database}: #{schemas} \{tenant,public\};/, options: "-c search_path=tenant,public")
    refuse_to_start(/#{database}: #{schemas} \{tenant,public\};/, schema_search_path: "tenant, public")
    refuse_to_start(/#{schemas} \{tenant\}/, variables: { search_path: "tenant" })
    refuse_to_start(/the user of Active Record is postgres, the worker's clerk/, variables: { role: "clerk" })
    refuse_to_start(/the database of Active Record is #{TEST_DATABASE}, the worker's /, url: SERVER_URL)
    expect { start(application_name: "shop", variables: { search_path: "public" }) }.not_to raise_error
  end

  it "is rejected if a namesake database is on another server" do
    TaskerCore::Development::PrivatePostgres.run(fsync: "off") do |other|
      url = TaskerCore::Development::Database.create(other.url, TEST_DATABASE)
      expect { TaskerCore::Worker.new(database: { url: url }).start }
        .to raise_error(TaskerCore::ConfigurationError, /the two servers have different system identifiers/)
    end
  end

  it "is rejected if Active Record sees no schema" do
    identity = { "schemas" => "{}" }
    connection = instance_double(ActiveRecord::ConnectionAdapters::PostgreSQLAdapter, select_one: identity)
    allow(connection).to receive(:uncached).and_yield
    expect { TaskerCore::Postgres::Address.identity(connection) }
      .to raise_error(TaskerCore::ConfigurationError, /`schema_search_path`/)
  end

  it "runs only tasks of the configured schema" do
    with_database("tasker_core_tenants") do |url|
      script = <<~RUBY
        class Here < TaskerCore::Workflow; step :only; def only(context) = { ran: ENV["PLACE"] }; end
        ApplicationRecord = Class.new(ActiveRecord::Base) { self.abstract_class = true }
        ActiveRecord::Base.connection.execute("create schema if not exists \#{ENV["PLACE"]}")
        migrate
        task = Here.create!
        if ENV["WORK"]
          worker = TaskerCore::Worker.new.start
          task.wait(timeout: 120)
          worker.stop
        end
        puts "states \#{TaskerCore::Task.pluck(:state).join(",")}"
      RUBY
      run = lambda do |place, **variables|
        run_host(@directory, script: script, database: "#{url}&options=-csearch_path%3D#{place}",
                             variables: { "PLACE" => place, **variables.transform_keys(&:to_s) })
      end
      Dir.mktmpdir do |directory|
        @directory = directory
        expect(run.call("public")).to end_with "states pending\n"
        expect(run.call("tenant", WORK: "1")).to end_with "states complete\n"
        expect(PG.connect(url).exec("select state from public.tasker_tasks").values).to eq [["pending"]]
      end
    end
  end
end
