# frozen_string_literal: true

require "net/http"
require "puma"
require "puma/server"

# Runs every query of docs/monitoring in a real Prometheus that scrapes the real endpoint.
RSpec.describe "docs/monitoring" do
  include Workers

  def root = File.expand_path("../../..", __dir__)

  def rules = YAML.load_file("#{root}/docs/monitoring/alerts.yml").fetch("groups").flat_map { |group| group["rules"] }

  def dashboard = JSON.parse(File.read("#{root}/docs/monitoring/dashboard.json"))

  def panel_queries
    dashboard.fetch("panels").flat_map { |panel| panel["targets"].map { |target| target["expr"] } }
  end

  def promtool(*arguments) = Open3.capture2e("promtool", *arguments, chdir: root)

  it "has rules that are valid and fire as their tests say" do
    [%w[check rules docs/monitoring/alerts.yml], %w[test rules spec/fixtures/monitoring/alerts_test.yml]].each do |call|
      output, status = promtool(*call)
      expect(status).to be_success, output
    end
    tested = YAML.load_file("#{root}/spec/fixtures/monitoring/alerts_test.yml").fetch("tests")
                 .flat_map { |test| test["alert_rule_test"].select { |one| one["exp_alerts"] }.map { _1["alertname"] } }
    expect(tested).to match_array(rules.map { |rule| rule["alert"] })
  end

  it "describes every metric and every alert" do
    document = File.read("#{root}/docs/monitoring.md")
    names = TaskerCore::Operations::Metrics.new.to_s.scan(/^# TYPE (\w+)/).flatten
    expect((names + rules.map { |rule| rule["alert"] }).reject { |name| document.include?("`#{name}`") }).to eq []
  end

  context "with Prometheus" do
    def serve(app)
      server = Puma::Server.new(app, nil, min_threads: 1, max_threads: 2, log_writer: Puma::LogWriter.null)
      socket = server.add_tcp_listener("127.0.0.1", 0)
      server.run
      yield socket.addr[1]
    ensure
      server&.stop(true)
    end

    def free_port = TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] }

    def with_prometheus(target)
      Dir.mktmpdir do |directory|
        settings = { "global" => { "scrape_interval" => "250ms", "evaluation_interval" => "1s" },
                     "rule_files" => ["#{root}/docs/monitoring/alerts.yml"],
                     "scrape_configs" => [{ "job_name" => "tasker", "metrics_path" => "/metrics",
                                            "static_configs" => [{ "targets" => ["127.0.0.1:#{target}"] }] }] }
        File.write("#{directory}/prometheus.yml", YAML.dump(settings))
        port = free_port
        pid = spawn("prometheus", "--config.file=#{directory}/prometheus.yml", "--storage.tsdb.path=#{directory}/data",
                    "--web.listen-address=127.0.0.1:#{port}", out: "#{directory}/log", err: "#{directory}/log")
        eventually { ready?(port) }
        yield port
      ensure
        end_process(pid)
      end
    end

    def ready?(port)
      Net::HTTP.get_response(URI("http://127.0.0.1:#{port}/-/ready")).is_a?(Net::HTTPOK)
    rescue Errno::ECONNREFUSED
      false
    end

    def query(port, expression)
      uri = URI("http://127.0.0.1:#{port}/api/v1/query")
      uri.query = URI.encode_www_form(query: expression)
      response = JSON.parse(Net::HTTP.get(uri))
      expect(response).to include("status" => "success")
      response.dig("data", "result")
    end

    def work
      subscription = JSON.generate([{ name: "books", events: ["task.*"] }])
      TaskerCore::Postgres::Functions.call(ActiveRecord::Base.connection, :register_subscriptions, subscription)
      Line.create_all!(Array.new(5) { |n| { n: n } })
    end

    it "shows data in every panel, and evaluates every rule on known metrics" do
      app = ->(_env) { [200, { "content-type" => "text/plain" }, [TaskerCore::Operations::Metrics.new.to_s]] }
      serve(app) do |target|
        with_prometheus(target) do |port|
          with_worker(leases: { heartbeat_interval: "200ms" }, execution: { queues: ["default"] }) do
            work
            queries = panel_queries.map { |expression| expression.gsub("$__rate_interval", "1m") }
            # Ready steps that no worker takes; the panels by queue show nothing while no step is ready.
            ActiveRecord::Base.transaction { move(Line.create!(n: 1)) }
            eventually do
              work
              queries.all? { |expression| query(port, expression).any? { |sample| sample["value"][1] != "NaN" } }
            end
            known = query(port, '{__name__=~"tasker_.*"}').map { |sample| sample.dig("metric", "__name__") }.uniq
            all = panel_queries + rules.map { |rule| rule["expr"] }
            expect(all.flat_map { |expression| expression.scan(/tasker_\w+/) }.uniq - known).to eq []
            # Only the rules whose condition is met in this test have a result.
            firing = rules.reject { |rule| query(port, rule["expr"]).empty? }.map { |rule| rule["alert"] }
            expect(firing - %w[TaskerQueueLate]).to eq []
          end
        end
      end
    end

    def move(task)
      ActiveRecord::Base.connection.execute(<<~SQL)
        update tasker_ready_steps set queue = 'unserved', ready_at = ready_at - interval '10 minutes'
        where task_id = #{task.id}
      SQL
    end
  end
end
