# frozen_string_literal: true

RSpec.describe "Health and metrics of the API" do
  # Samples by name and labels.
  def metrics
    api(:get, "/metrics").lines.grep_v(/\A#/).to_h { |line| line.chomp.split(/ (?=\S+\z)/) }.transform_values(&:to_f)
  end

  # The state after a deploy that did not install the functions.
  def without_functions
    connection = ActiveRecord::Base.connection
    TaskerCore::Postgres::Functions.uninstall!(connection)
    yield
  ensure
    TaskerCore::Postgres::Functions.install!(connection)
  end

  it "reports live, and ready when the functions are installed" do
    expect(api(:get, "/health/live")).to eq("status" => "live")
    expect(api(:get, "/health/ready")).to eq("status" => "ready")
    without_functions { expect(api(:get, "/health/ready")).to include("status" => 503, "detail" => "functions") }
    without_database { expect(api(:get, "/health/ready")).to include("status" => 503, "detail" => "database") }
    expect(api(:get, "/health/ready")).to eq("status" => "ready")
  end

  it "reports statistics, workers and subscriptions" do
    Line.create_all!([{ n: 1 }, { n: 2 }])
    Line.set(wait_until: 1.hour.from_now).create!(n: 3)
    expect(api(:get, "/health/status"))
      .to include("version" => TaskerCore::VERSION, "queues" => { "default" => 2 }, "processes" => [])
    expect(response.parsed_body["stats"])
      .to include("ready_steps" => 2, "waiting_steps" => 1, "next_run_at" => /\A\d{4}.*Z\z/)
    with_worker(execution: { queues: ["nothing"] }) do
      eventually { api(:get, "/health/status")["processes"].any? }
      expect(response.parsed_body["processes"])
        .to match [include("queues" => ["nothing"], "pid" => Process.pid, "silent" => false)]
      expect(metrics).to include("tasker_processes" => 1)
    end
    connection = ActiveRecord::Base.connection
    TaskerCore::Postgres::Functions.call(connection, :register_subscriptions,
                                         JSON.generate([{ name: "books", events: ["task.*"] }]))
    expect(api(:get, "/health/status")["subscriptions"])
      .to match [include("name" => "books", "events" => ["task.*"], "waiting" => 0, "oldest_seconds" => nil,
                         "failures" => 0)]
    expect(metrics)
      .to include('tasker_subscription_waiting_events{subscription="books"}' => 0,
                  'tasker_subscription_oldest_seconds{subscription="books"}' => 0)
  end

  it "exports metrics to Prometheus with help and type" do
    Line.create_all!([{ n: 1 }, { n: 2 }])
    expect(metrics).to include("tasker_ready_steps" => 2, 'tasker_queue_ready_steps{queue="default"}' => 2,
                               "tasker_claimed_steps" => 0,
                               "tasker_info{version=\"#{TaskerCore::VERSION}\"}" => 1)
    expect(metrics["tasker_oldest_ready_seconds"]).to be > 0
    expect(response.headers["Content-Type"]).to eq "text/plain; version=0.0.4; charset=utf-8"
    expect(metrics['tasker_queue_oldest_ready_seconds{queue="default"}']).to be > 0
    named = metrics.keys.map { |name| name[/\w+/].sub(/_(bucket|sum|count)\z/, "") }.uniq
    undescribed = named.reject do |name|
      response.body.match?(/^# HELP #{name} \S.*\n# TYPE #{name} (gauge|counter|histogram)$/)
    end
    expect(undescribed).to eq []
  end

  it "exports metrics that promtool accepts" do
    Line.create!(n: 1)
    Diamond.create!(n: 1)
    output, status = Open3.capture2e("promtool", "check", "metrics", stdin_data: api(:get, "/metrics"))
    expect([output, status.exitstatus]).to eq ["", 0]
  end

  it "counts tasks, attempts and what processes measured" do
    tasks = Line.create_all!([{ n: 1 }, { n: 2 }])
    tasks.last.cancel!(reason: "x", by: "y")
    with_worker { tasks.first.wait(timeout: 60) }
    of_line = lambda do |name, **labels|
      labels = { workflow_namespace: "default", workflow: "line", **labels }
      labels = labels.map { |label, value| %(#{label}="#{value}") }
      metrics["tasker_#{name}{#{labels.join(',')}}"]
    end
    expect(of_line.call("tasks_created_total")).to eq 2
    states = %w[pending complete error cancelled resolved_manually]
    expect(states.map { |state| of_line.call("tasks", state: state) }).to eq [0, 1, 0, 1, 0]
    expect((states - ["pending"]).map { |state| of_line.call("tasks_ended_total", state: state) }).to eq [1, 0, 1, 0]
    steps = tasks.first.remaining
    outcomes = %w[completed failed released lost]
    expect(outcomes.map { |outcome| of_line.call("attempts_total", outcome: outcome) }).to eq [steps, 0, 0, 0]
    measured = metrics
    expect(measured).to include("tasker_run_seconds_count" => steps, 'tasker_run_seconds_bucket{le="+Inf"}' => steps,
                                "tasker_claimed_steps_total" => steps, "tasker_threads" => 0)
    expect(measured["tasker_finish_seconds_count"]).to be_between(1, steps)
    expect(measured["tasker_finish_seconds_sum"]).to be > 0
    buckets = measured.filter_map { |name, count| count if name.start_with?("tasker_finish_seconds_bucket") }
    expect(buckets).to eq buckets.sort
    expect(buckets.last).to eq measured["tasker_finish_seconds_count"]
  end

  it "counts the ready steps of each queue" do
    Line.create_all!(Array.new(3) { |n| { n: n } })
    ActiveRecord::Base.connection.execute(<<~SQL)
      update tasker_ready_steps set queue = 'other', ready_at = ready_at - interval '1 hour'
      where seq = (select min(seq) from tasker_ready_steps)
    SQL
    expect(TaskerCore::Operations::Health.new.queue_stats)
      .to match [include("queue" => "default", "steps" => 2, "oldest_seconds" => be_between(0, 60)),
                 include("queue" => "other", "steps" => 1, "oldest_seconds" => be_between(3600, 3660))]
  end

  it "escapes quotes and line breaks in labels" do
    subscription = JSON.generate([{ name: "a\"b\\c\nd", events: ["task.*"] }])
    TaskerCore::Postgres::Functions.call(ActiveRecord::Base.connection, :register_subscriptions, subscription)
    expect(api(:get, "/metrics")).to include(%q(tasker_subscription_failures{subscription="a\"b\\\\c\\nd"} 0))
  end

  it "serves its description with its own address" do
    document = api(:get, "/openapi.json")
    expect(document)
      .to include("servers" => [{ "url" => "/tasker/api/v1" }], "info" => include("version" => TaskerCore::VERSION))
    expect(document["paths"].keys).to eq Contract.current.document["paths"].keys
    expect(document).not_to have_key("x-parts")
  end

  it "responds with 404 to anything else" do
    expect(api(:get, "/nothing"))
      .to include("status" => 404,
                  "detail" => %r{no route matches GET of that path: GET /tasker/api/v1/openapi.json lists all routes})
    expect(api(:delete, "/tasks")).to include("status" => 404, "detail" => /no route matches DELETE of that path/)
    expect(api(:get, "/tasks.json")).to include("status" => 404)
  end
end
