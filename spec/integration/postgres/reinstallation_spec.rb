# frozen_string_literal: true

# Rows and functions that a process has seen may disappear at any time: by a truncation, a restore, retention.
RSpec.describe "A database that was emptied under a running process" do
  let(:connection) { ActiveRecord::Base.connection }

  # A worker may lock the tables in another order.
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

  it "registers its workflow versions again under a worker" do
    with_worker do
      Diamond.create!(n: 2).wait(timeout: 120)
      empty
      task = Diamond.create!(n: 2)
      expect(task.wait(timeout: 120).state).to eq "complete"
      expect(task.workflow_version.version).to eq Diamond.version
    end
  end

  it "registers them inside the caller's transaction" do
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

  it "registers a version again that retention removed" do
    connection.execute("truncate tasker_tasks, tasker_workflow_versions, tasker_step_definitions")
    expect(Diamond.create_all!([{ n: 2 }, { n: 3 }]).map { |task| task.steps.size }).to eq [4, 4]
  end

  it "rejects a version registered with other content meanwhile" do
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
    expect { first.create!(n: 1) }
      .to raise_error(TaskerCore::WorkflowConflictError, /trial has changed since version 1 was registered/)
  end

  it "costs one call normally and three after the loss" do
    expect(functions_called { Diamond.create!(n: 2) }).to eq ["create_tasks", "wake_workers", nil]
    empty
    expect(functions_called { Diamond.create!(n: 2) }.compact)
      .to eq %w[create_tasks register_workflow create_tasks wake_workers]
  end

  it "reinstalls functions outside or after a transaction" do
    connection.execute("drop schema tasker_core_v1 cascade")
    expect(Diamond.create!(n: 2).steps.size).to eq 4

    connection.execute("drop schema tasker_core_v1 cascade")
    expect { ActiveRecord::Base.transaction { Diamond.create!(n: 2) } }
      .to raise_error(TaskerCore::FunctionsMissingError)
    expect(Diamond.create!(n: 2).steps.size).to eq 4
  end

  it "names the command to install functions in production" do
    allow(Rails).to receive(:env).and_return(ActiveSupport::EnvironmentInquirer.new("production"))
    connection.execute("drop schema tasker_core_v1 cascade")
    expect { Diamond.create!(n: 2) }
      .to raise_error(TaskerCore::FunctionsMissingError, %r{run `bin/rails tasker_core:functions:install`})
  ensure
    TaskerCore::Postgres::Functions.install!(connection)
  end

  it "remembers functions per database" do
    verified = 0
    allow(TaskerCore::Postgres::Functions).to(
      receive(:install!).and_wrap_original { |install, *arguments| (verified += 1) && install.call(*arguments) }
    )
    Diamond.create!(n: 2)
    expect(verified).to eq 0
    ActiveRecord::Base.connection_handler.establish_connection(ENV.fetch("DATABASE_URL"),
                                                               owner_name: ActiveRecord::Base)
    Diamond.create!(n: 2)
    expect(verified).to eq 1
  end

  it "registers durable subscriptions again under a worker" do
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
