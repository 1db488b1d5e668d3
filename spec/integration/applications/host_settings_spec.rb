# frozen_string_literal: true

require "tmpdir"

# A host's settings of Active Record apply to its own tables: the gem's are created, read and shown as in any other
# host.
RSpec.describe "Settings of the host's Active Record" do
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }

  workflow = <<~'RUBY'
    class Echo < TaskerCore::Workflow
      step :one
      step :two, depends_on: :one, retry: { max_attempts: 1 }
      def one(_context) = { ok: true }
      def two(_context) = raise("no")
    end

    # @return [Task] a task that a worker has finished
    def performed
      task = Echo.set(idempotency_key: "one", tags: ["x"]).create!
      worker = TaskerCore::Worker.new.start
      task.wait(timeout: 120)
    ensure
      worker&.stop(timeout: 10)
    end

    def statuses(*paths) = paths.map { |path| Rails.application.call(Rack::MockRequest.env_for("/flows#{path}")).first }

    def pages(task)
      page = "/tasks/#{task.uuid}"
      resource = "/api/v1/tasks/#{task.id}"
      statuses("", "/tasks", page, "#{page}/graph", "#{page}/steps/two", "#{page}/cancel", "/workflows", "/workflows/1",
               "/api/v1/tasks", resource, "#{resource}/attempts", "#{resource}/steps", "#{resource}/why",
               "/api/v1/workflows", "/api/v1/metrics", "/api/v1/health/status").tally
    end

    def commands(task)
      File.write("nothing.rb", "")
      id = task.id.to_s
      commands = [%w[list], ["show", id], ["why", id], %w[workflows], %w[doctor], ["retry", id, "--reason", "trial"]]
      commands.to_h do |arguments|
        out, err = StringIO.new, StringIO.new
        status = TaskerCore::CLI.new(out: out, err: err).run([*arguments, "--require", "./nothing.rb"])
        [arguments.first, [status, *([out.string, err.string] if status != 0)]]
      end
    end

    def shape
      ActiveRecord::Base.connection.select_rows(<<~SQL)
        select table_name::text, column_name::text, data_type::text, column_default::text, is_nullable::text
        from information_schema.columns
        where table_schema = current_schema() and table_name like '%tasker%'
        order by 1, ordinal_position
      SQL
    end
  RUBY

  everything = <<~RUBY
    config.active_record.table_name_prefix = "app_"
    config.active_record.table_name_suffix = "_v2"
    config.active_record.primary_key_prefix_type = :table_name_with_underscore
    config.active_record.pluralize_table_names = false
    config.active_record.strict_loading_by_default = true
    config.active_record.belongs_to_required_by_default = true
    config.active_record.default_timezone = :local
    config.active_record.time_zone_aware_types = [:datetime]
    config.active_record.partial_inserts = false
    config.active_record.automatic_scope_inversing = true
    config.active_record.raise_on_assign_to_attr_readonly = true
    config.active_record.query_log_tags_enabled = true
    config.time_zone = "Asia/Tokyo"
    config.generators { |generators| generators.orm :active_record, primary_key_type: :uuid }
    ActiveSupport.on_load(:active_record) do
      self.inheritance_column = "name"
      self.implicit_order_column = "updated_at"
    end
    ActiveSupport.on_load(:active_record_postgresqladapter) do
      self::NATIVE_DATABASE_TYPES[:primary_key] = "uuid primary key default gen_random_uuid()"
    end
  RUBY

  it "leave tables, models, pages, commands and schema.rb alone" do
    with_database("tasker_host_settings") do |url|
      variables = { "TZ" => "America/New_York" }
      out = run_host(@directory, database: url, settings: everything, variables: variables, script: <<~RUBY)
        #{workflow}
        migrate
        task = performed
        attempt = task.attempts.first
        step = TaskerCore::WorkflowStep.find([task.id, 1])
        puts JSON.generate(
          state: task.state, existing: Echo.set(idempotency_key: "one").create!.id == task.id,
          first: TaskerCore::Task.first.id == task.id,
          lazy: [task.workflow_version.name, step.task.id, attempt.task.id, task.input, task.idempotency_key,
                 task.events.to_a],
          recent: [task.created_at, attempt.started_at].map { |time| (Time.now - time).abs < 60 },
          pages: pages(task), commands: commands(task), shape: shape
        )
        connection = ActiveRecord::Base.connection
        connection.create_table("app_things_v2")
        source = Rails.version >= "7.2" ? ActiveRecord::Base.connection_pool : connection
        File.open("schema.rb", "w") { |file| ActiveRecord::SchemaDumper.dump(source, file) }
      RUBY
      reported = JSON.parse(out.lines.last)
      expect(reported)
        .to include("state" => "error", "existing" => true, "first" => true, "recent" => [true, true],
                    "pages" => { "200" => 16 })
      expect(reported["lazy"]).to eq ["echo", 1, 1, {}, "one", []]
      expect(reported["commands"].except("doctor")).to eq(%w[list show why workflows retry].index_with { [0] })
      expect(reported["shape"]).to eq own_shape
    end
    with_database("tasker_host_load") do |url|
      out = run_host(@directory, database: url, settings: everything, script: <<~RUBY)
        #{workflow}
        ActiveRecord::Schema.verbose = false
        load File.expand_path("schema.rb")
        TaskerCore::Postgres::Functions.install!(ActiveRecord::Base.connection)
        things = ActiveRecord::Base.connection.data_source_exists?("app_things_v2")
        puts JSON.generate(shape: shape, state: performed.state, things: things)
      RUBY
      reported = JSON.parse(out.lines.last)
      expect(reported).to include("state" => "error", "things" => true, "shape" => own_shape)
    end
  end

  it "may move the tables to another schema" do
    with_database("tasker_host_schema") do |url|
      connection = PG.connect(url).tap { |pg| pg.exec("create schema shop") }
      address = "#{url}#{url.include?('?') ? '&' : '?'}schema_search_path=shop"
      out = run_host(@directory, database: address, script: <<~RUBY)
        #{workflow}
        require "tasker_core/testing"
        migrate
        task = Echo.create!
        Object.new.extend(TaskerCore::Testing).perform_tasks
        puts JSON.generate([task.state, pages(task)])
      RUBY
      expect(JSON.parse(out.lines.last)).to eq ["error", { "200" => 16 }]
      expect(connection.exec("select count(*) from shop.tasker_tasks").getvalue(0, 0)).to eq "1"
    ensure
      connection&.close
    end
  end

  it "are rejected by the migration when it cannot work" do
    adapter = ActiveRecord::ConnectionAdapters::PostgreSQLAdapter
    verify = lambda do |**stubs|
      TaskerCore::Postgres::Tables.verify!(instance_double(adapter, current_database: "shop", **stubs))
    end
    sound = { adapter_name: "PostgreSQL", database_version: 130_000, current_schema: "public",
              data_source_exists?: false }
    expect { verify.call(**sound) }.not_to raise_error
    {
      { adapter_name: "SQLite" } => /its adapter is SQLite, but tasker_core needs PostgreSQL/,
      { database_version: 120_020 } => /120020, but tasker_core needs PostgreSQL 13/,
      { current_schema: nil, schema_search_path: "nowhere" } => /no schema of schema_search_path exists \(nowhere\)/,
      { data_source_exists?: true } => /the schema public has tasker_workflow_versions already: rename or remove it/
    }.each do |stubs, message|
      expect { verify.call(**sound, **stubs) }
        .to raise_error(TaskerCore::DatabaseError, /cannot be created in the database shop: .*#{message}/)
    end
    require "#{root}/db/migrate/20261101000001_create_tasker_tables"
    migration = CreateTaskerTables.new
    expect { migration.suppress_messages { migration.exec_migration(ActiveRecord::Base.connection, :up) } }
      .to raise_error(TaskerCore::DatabaseError, /has tasker_workflow_versions already/)
  end

  it "match the tables that the migration creates" do
    expect(ActiveRecord::Base.connection.tables.grep(/\Atasker_/)).to match_array TaskerCore::Postgres::Tables::NAMES
  end

  # The columns of this suite's own database, which has none of these settings.
  def own_shape
    ActiveRecord::Base.connection.select_rows(<<~SQL)
      select table_name::text, column_name::text, data_type::text, column_default::text, is_nullable::text
      from information_schema.columns
      where table_schema = 'public' and table_name like '%tasker%'
      order by 1, ordinal_position
    SQL
  end
end
