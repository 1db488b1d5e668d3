# frozen_string_literal: true

# What a process has found in its database may be gone the next moment: by a truncation, a restore, retention.
RSpec.describe "A database that was emptied under a running process" do
  let(:connection) { ActiveRecord::Base.connection }

  # A worker may hold locks of the tables in another order.
  def empty
    ActiveRecord::Base.connection.execute("truncate #{TaskerCore::Postgres::Tables::NAMES.join(', ')} restart identity")
  rescue ActiveRecord::Deadlocked
    retry
  end

  def functions_called(&block)
    lookup = []
    reader = ->(*, payload) { lookup << payload[:sql][/tasker_core_v1\.(\w+)/, 1] }
    ActiveSupport::Notifications.subscribed(reader, "sql.active_record", &block)
    lookup
  end

  before { Diamond.create!(n: 2) }

  it "gets its workflow versions again, and the worker goes on" do
    with_worker do
      Diamond.create!(n: 2).wait(timeout: 20)
      empty
      task = Diamond.create!(n: 2)
      expect(task.wait(timeout: 20).state).to eq "complete"
      expect(task.workflow_version.version).to eq Diamond.version
    end
  end

  it "gets them inside the caller's transaction, which is not lost" do
    empty
    connection.execute("create temporary table notes (text text)")
    task = ActiveRecord::Base.transaction do
      connection.execute("insert into notes values ('kept')")
      Diamond.create!(n: 2)
    end
    expect(connection.select_values("select text from notes")).to eq ["kept"]
    expect(task.steps.size).to eq 4
  ensure
    connection.execute("drop table if exists notes")
  end

  it "gets a version again that retention has removed" do
    connection.execute("truncate tasker_tasks, tasker_workflow_versions, tasker_step_definitions")
    expect(Diamond.create_all!([{ n: 2 }, { n: 3 }]).map { |task| task.steps.size }).to eq [4, 4]
  end

  it "refuses a version that was registered with another content meanwhile" do
    declare = lambda do |step|
      Class.new(TaskerCore::Workflow) do
        workflow_name "trial"
        version "1"
        step step, handler: Square
      end
    end
    first = declare.call(:one).tap { |workflow| workflow.create!(n: 1) }
    empty
    declare.call(:another).create!(n: 1)
    expect { first.create!(n: 1) }.to raise_error(TaskerCore::WorkflowConflictError, /trial has changed since version 1 was registered/)
  end

  it "costs one call where nothing is missing, and three where it is" do
    expect(functions_called { Diamond.create!(n: 2) }).to eq ["create_tasks", "wake_workers", nil]
    empty
    expect(functions_called { Diamond.create!(n: 2) }.compact).to eq %w[create_tasks register_workflow create_tasks wake_workers]
  end

  it "gets its functions again, at once outside a transaction and after it inside one" do
    connection.execute("drop schema tasker_core_v1 cascade")
    expect(Diamond.create!(n: 2).steps.size).to eq 4

    connection.execute("drop schema tasker_core_v1 cascade")
    expect { ActiveRecord::Base.transaction { Diamond.create!(n: 2) } }.to raise_error(TaskerCore::FunctionsMissingError)
    expect(Diamond.create!(n: 2).steps.size).to eq 4
  end

  it "is told what to install where functions are missing in production" do
    allow(Rails).to receive(:env).and_return(ActiveSupport::EnvironmentInquirer.new("production"))
    connection.execute("drop schema tasker_core_v1 cascade")
    expect { Diamond.create!(n: 2) }.to raise_error(TaskerCore::FunctionsMissingError, %r{run `bin/rails tasker_core:functions:install`})
  ensure
    TaskerCore::Postgres::Functions.install!(connection)
  end

  it "remembers functions of the database in which they were found, and of no other" do
    verified = 0
    allow(TaskerCore::Postgres::Functions).to(receive(:install!).and_wrap_original { |install, *arguments| (verified += 1) && install.call(*arguments) })
    Diamond.create!(n: 2)
    expect(verified).to eq 0
    ActiveRecord::Base.connection_handler.establish_connection(ENV.fetch("DATABASE_URL"), owner_name: ActiveRecord::Base)
    Diamond.create!(n: 2)
    expect(verified).to eq 1
  end

  it "gets its durable subscriptions again while the worker runs" do
    load "#{root}/spec/dummy/ledger.rb"
    Ledger.create_table
    with_worker(subscriptions: { poll_interval: 0.05 }) do
      empty
      eventually { connection.select_value("select count(*) from tasker_subscriptions") == 1 }
      task = Announcing.create!
      eventually { Ledger::Line.where(task_id: task.id).pluck(:name).include?("task.failed") }
    end
  ensure
    Ledger.unsubscribe
    connection.execute("drop table if exists ledger_lines")
  end
end
