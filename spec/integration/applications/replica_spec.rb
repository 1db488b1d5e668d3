# frozen_string_literal: true

require "open3"
require_relative "../../../bench/chaos/effects"
require_relative "../../../bench/chaos/servers"

# An application with a primary and a real standby, whose replication can be paused.
RSpec.describe "A read replica" do
  around do |example|
    Chaos::Servers.run(fsync: "off") do |servers|
      @url = TaskerCore::Development::Database.create(servers.url, "shop")
      standby = servers.standby
      @replica = standby.url("shop")
      Dir.mktmpdir { |directory| (@directory = directory) && example.run }
    ensure
      standby&.stop
    end
  end

  # Reads, writes and responses of the application, with the replica stopped after the first task.
  let(:script) { <<~'RUBY' }
    databases = { "primary" => ENV.fetch("DATABASE_URL"), "replica" => ENV.fetch("REPLICA_URL") }
    ActiveRecord::Base.configurations = { "test" => databases.transform_values { |url| { "url" => url } } }
    class Flow < TaskerCore::Workflow; step(:only); def only(_context) = {}; end

    REPLICA = PG.connect(ENV.fetch("REPLICA_URL"))
    def replica(sql) = REPLICA.exec(sql).getvalue(0, 0)
    # Waits until the query returns this on the replica.
    def replicate(sql, value) = (sleep 0.01 until replica(sql) == value)

    def request(method, path, body = nil)
      environment = Rack::MockRequest.env_for("/flows#{path}", method: method, input: body && JSON.generate(body),
                                                               "CONTENT_TYPE" => "application/json")
      status, headers, response = Rails.application.call(environment)
      text = +""
      response.each { |part| text << part }
      [status, text, headers]
    end
    def state(path = "/api/v1/tasks/1") = JSON.parse(request("GET", path)[1])["state"]
    def report(title, value) = puts("#{title}: #{Array(value).join(" ")}")

    migrate
    first = Flow.create!
    replicate("select count(*) from pg_class where relname = 'tasker_tasks'", "1")
    replicate("select count(*) from tasker_tasks", "1")
    paths = %w[tasks tasks/1 tasks/1/why tasks/1/steps tasks/1/attempts tasks/1/graph workflows health/status metrics]
            .map { |path| "/api/v1/#{path}" }
    paths += %w[/ /tasks /tasks/1 /tasks/1/graph /tasks/1/steps/only /tasks/1/cancel /workflows]
    report "statuses", paths.map { |path| request("GET", path).first }.uniq
    replica("select pg_wal_replay_pause()::text")
    replicate("select pg_get_wal_replay_pause_state()", "paused")
    Flow.create!
    report "listed", JSON.parse(request("GET", "/api/v1/tasks")[1])["tasks"].size
    report "on the dashboard", request("GET", "/tasks")[1].scan(/<th scope="row"><a [^>]*>(\d+)</).flatten
    report "counted by the metrics", request("GET", "/api/v1/metrics")[1][/^tasker_ready_steps (\d+)/, 1]
    report "action", JSON.parse(request("POST", "/api/v1/tasks/1/cancel", { reason: "why" })[1])["state"]
    report "after the action", "#{state}, and #{request("GET", "/tasks/1?done=1")[1][/cancelled/]} on its page"
    ApplicationRecord.connected_to(role: :reading) do
      report "model", TaskerCore::Task.find(first.id).state
      report "steps", first.reload.steps.map(&:state).join(" ")
      begin
        first.cancel!(reason: "why", by: "ada")
      rescue TaskerCore::DatabaseError => e
        report "refused", e.message
      end
    end
    replica("select pg_wal_replay_resume()::text")
    replicate("select state from tasker_tasks where id = 1", "cancelled")
    report "at last", state
  RUBY

  # Loaded by Rails when it is needed, as in development.
  let(:record) { <<~RUBY }
    class ApplicationRecord < ActiveRecord::Base
      primary_abstract_class
      connects_to database: { writing: :primary, reading: :replica }
    end
  RUBY

  def output(settings, script = self.script)
    FileUtils.mkdir_p("#{@directory}/app/models")
    File.write("#{@directory}/app/models/application_record.rb", record)
    run_host(@directory, database: @url, variables: { "REPLICA_URL" => @replica }, script: script, settings: settings)
  end

  it "serves requests that read, but no action and no metrics" do
    expect(output("config.tasker_core.reading_role = :reading")).to end_with <<~TEXT
      statuses: 200
      listed: 1
      on the dashboard: 1
      counted by the metrics: 2
      action: cancelled
      after the action: pending, and cancelled on its page
      model: pending
      steps: ready
      refused: the database is read only: cannot execute SELECT FOR UPDATE in a read-only transaction; on a replica's \
      connection, use the writing role (`ActiveRecord::Base.connected_to(role: :writing) { … }`)
      at last: cancelled
    TEXT
  end

  it "is missed with an error that names its undeclared role" do
    request = <<~RUBY
      databases = { "primary" => ENV.fetch("DATABASE_URL"), "replica" => ENV.fetch("REPLICA_URL") }
      ActiveRecord::Base.configurations = { "test" => databases.transform_values { |url| { "url" => url } } }
      TaskerCore::HTTP::ProblemDetails.prepend(Module.new { def initialize(error) = super(error).tap { puts error.message } })
      Rails.application.call(Rack::MockRequest.env_for("/flows/api/v1/tasks"))
    RUBY
    expect(output("config.tasker_core.reading_role = :replica", request))
      .to eq "role: replica is not declared by the application's `connects_to`\n"
  end

  it "is not used unless the application names its role" do
    expect(output("")).to include("listed: 2\n", "on the dashboard: 2 1\n", "after the action: cancelled")
  end
end
