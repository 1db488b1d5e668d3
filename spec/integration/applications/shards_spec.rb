# frozen_string_literal: true

# An application whose tasks are in two databases, the shards of Active Record.
RSpec.describe "An application with shards" do
  around do |example|
    with_database("tasker_core_first") do |first|
      with_database("tasker_core_second") do |second|
        @urls = { "FIRST_URL" => first, "SECOND_URL" => second }
        Dir.mktmpdir { |directory| (@directory = directory) && example.run }
      end
    end
  end

  # What the application and `tasker` load.
  let(:application) { <<~'RUBY' }
    require "rails"
    require "active_record/railtie"
    require "action_controller/railtie"
    require "tasker_core"
    class Shop < Rails::Application
      config.root = __dir__
      config.load_defaults Rails::VERSION::STRING.to_f
      config.eager_load = false
      config.secret_key_base = "a shop's"
      config.logger = ActiveSupport::Logger.new(nil)
      config.hosts.clear
      config.active_record.maintain_test_schema = false
      # A request's shard is the first part of its host's name.
      config.active_record.shard_selector = { lock: true }
      config.active_record.shard_resolver = ->(request) { request.host.split(".").first.to_sym }
      config.after_initialize { TaskerCore.authenticate_with { "ada" } }
      routes.append { mount TaskerCore::Engine => "/flows" }
    end
    Shop.initialize!
    databases = { first: { url: ENV.fetch("FIRST_URL") }, second: { url: ENV.fetch("SECOND_URL") } }
    ActiveRecord::Base.configurations = { "test" => databases }
    autoload :ApplicationRecord, "#{__dir__}/application_record"
    autoload :Order, "#{__dir__}/order"
    class Fulfillment < TaskerCore::Workflow
      step :only
      def only(context) = { total: Order.find(context.input.fetch("order")).total }
    end
  RUBY

  # Files that Rails loads when they are used, as it does in development.
  let(:models) { { "application_record.rb" => <<~RUBY, "order.rb" => "class Order < ApplicationRecord; end" } }
    class ApplicationRecord < ActiveRecord::Base
      primary_abstract_class
      connects_to shards: { first: { writing: :first, reading: :first }, second: { writing: :second, reading: :second } }
    end
  RUBY

  # Creates an order and its task in each shard; a rolled-back transaction leaves neither.
  let(:creation) { <<~RUBY }
    require_relative "application"
    ActiveRecord::Migration.verbose = false
    ApplicationRecord.name # loads the declaration of the shards
    %i[first second].each.with_index(1) do |shard, number|
      ActiveRecord::Base.connected_to(shard: shard) { ActiveRecord::MigrationContext.new("MIGRATIONS").migrate }
      ApplicationRecord.connected_to(shard: shard) do
        ApplicationRecord.connection.create_table(:orders) { |table| table.integer :total }
        number.times { Order.transaction { Fulfillment.create!(order: Order.create!(total: 100 * number).id) } }
        Order.transaction { Fulfillment.create!(order: Order.create!(total: 0).id) && raise(ActiveRecord::Rollback) }
      end
    end
    Rails.application.load_tasks
    Rake::Task["tasker_core:functions:verify"].invoke
  RUBY

  def run(*command)
    variables = { "RAILS_ENV" => "test", "BUNDLE_GEMFILE" => "#{root}/Gemfile", **@urls }
    out, status = Open3.capture2e(variables, RbConfig.ruby, "-rbundler/setup", "-I#{root}/lib", *command,
                                  chdir: @directory)
    [status.exitstatus, out]
  end

  def tasker(*arguments) = run("#{root}/exe/tasker", *arguments, "--require", "#{@directory}/application.rb")

  def ok(finished) = finished.tap { |status, out| expect(status).to eq(0), out }.last

  # @return [Hash{String => Array}] total and state of each task, by shard
  def tasks
    @urls.to_h do |name, url|
      rows = PG.connect(url).then do |connection|
        connection.exec("select t.state, result->>'total' from tasker_tasks t join tasker_workflow_steps s " \
                        "on s.task_id = t.id order by t.id").values.tap { connection.close }
      end
      [name.delete_suffix("_URL").downcase, rows]
    end
  end

  def work(shard)
    pid = spawn({ "RAILS_ENV" => "test", "BUNDLE_GEMFILE" => "#{root}/Gemfile", **@urls }, RbConfig.ruby,
                "-rbundler/setup", "-I#{root}/lib", "#{root}/exe/tasker", "work", "--shard", shard, "--require",
                "#{@directory}/application.rb", chdir: @directory, %i[out err] => "#{@directory}/log")
    yield
  ensure
    end_process(pid)
  end

  before do
    models.merge("application.rb" => application).each { |name, text| File.write("#{@directory}/#{name}", text) }
    File.write("#{@directory}/creation.rb", creation.sub("MIGRATIONS", "#{root}/db/migrate"))
    ok(run("#{@directory}/creation.rb"))
  end

  it "creates and runs each task in its shard" do
    expect(tasks).to eq("first" => [["pending", nil]], "second" => [["pending", nil]] * 2)
    work("second") { eventually { tasks["second"].all? { |state, _| state == "complete" } } }
    expect(tasks).to eq("first" => [["pending", nil]], "second" => [%w[complete 200]] * 2)
    work("first") { eventually { tasks["first"] == [%w[complete 100]] } }
  end

  it "has a command line for each shard" do
    expect(JSON.parse(ok(tasker("list", "--shard", "second", "--json")))["tasks"].size).to eq 2
    expect(JSON.parse(ok(tasker("list", "--json")))["tasks"].size).to eq 1
    expect(ok(tasker("why", "2", "--shard", "second"))).to include("start a worker: `tasker work --shard second`")
    expect(tasker("doctor", "--shard", "second").last).to include("start a worker: `tasker work --shard second`")
    expect(ok(tasker("show", "2", "--shard", "second"))).to end_with("`tasker why 2 --shard second` explains it\n")
    ok(tasker("cancel", "2", "--shard", "second", "--reason", "why"))
    expect(tasks.transform_values { |rows| rows.map(&:first) })
      .to eq("first" => ["pending"], "second" => %w[pending cancelled])
    expect(tasker("list", "--shard", "third")).to eq [2, "tasker: shard: third is not one of first, second\n"]
  end

  it "names the shard in the commands that its command line suggests" do
    connection = PG.connect(@urls.fetch("SECOND_URL"))
    connection.exec(%q(select tasker_core_v1.register_subscriptions('[{"name": "books", "events": ["task.*"]}]')))
    connection.exec(%q(update tasker_subscriptions set failures = 1, last_error = '{"class": "Full"}'))
    expect(tasker("subscriptions", "--shard", "second").last)
      .to include("skip it with `tasker subscriptions skip books --reason TEXT --shard second`")
    expect(tasker("list", "--shard", "second", "--limit", "1").last)
      .to match(/^continue with: tasker list --shard second --limit 1 .*--after /)
    lose("tasker_tasks", "tags = array(select md5(n::text) from generate_series(1, 500) as n)", "id = 2",
         execute: connection.method(:exec))
    expect(tasker("list", "--shard", "second", "--tag", "x").last).to include("`tasker why 2 --shard second`")
    connection.close
  end

  it "has a dashboard and an API for each shard" do
    File.write("#{@directory}/requests.rb", <<~'RUBY')
      require_relative "application"
      def get(url)
        text = +""
        Rails.application.call(Rack::MockRequest.env_for(url))[2].each { |part| text << part }
        text
      end
      %w[first second].each do |shard|
        puts JSON.parse(get("http://#{shard}.example/flows/api/v1/tasks"))["tasks"].size
        puts get("http://#{shard}.example/flows/tasks").scan(/<th scope="row">/).size
      end
    RUBY
    expect(ok(run("#{@directory}/requests.rb"))).to eq "1\n1\n2\n2\n"
  end
end
