# frozen_string_literal: true

# Runs every measurement on one server and prints it beside its budget (KERNEL's) and the machine's own limit.

require "optparse"
require "tasker_core"

ROOT = File.expand_path("..", __dir__)

# The measurements of one run.
class Bench
  D = TaskerCore::Development::Database
  CLIENTS = 5

  def initialize(url, scale)
    @url = url
    @tasks = 5000 * scale
    @samples = 100 * scale
    @figures = {}
  end

  attr_reader :figures

  def run
    measure(:commits) { engine("commits", CLIENTS, 3) }
    measure(:engine) { accounted { engine("throughput", @tasks, 3) } }
    measure(:ruby_1_process) { accounted { ruby("throughput", @tasks, 1, 5) } }
    measure(:ruby_2_processes) { accounted { ruby("throughput", @tasks, 2, 5) } }
    measure(:engine_latency) { engine("latency", @samples) }
    measure(:ruby_latency) { ruby("latency", @samples) }
    measure(:chain) { engine("chain", 40, 10) }
    measure(:idle) { idle }
    self
  end

  private

  # Each in a database of its own, so that none finds another's rows.
  def measure(name)
    warn "measuring #{name} …"
    D.temporary(@url, "tasker_bench") do |database|
      D.prepare(@database = database)
      ActiveRecord::Base.remove_connection
      @figures[name] = yield
    end
  end

  def engine(*arguments) = json("#{ROOT}/target/release/examples/engine_bench", @database, *arguments)

  def ruby(*arguments)
    json({ "DATABASE_URL" => @database }, RbConfig.ruby, "-I#{ROOT}/lib", "#{ROOT}/bench/ruby_worker.rb", *arguments)
  end

  def json(*command)
    output, status = Open3.capture2(*command.map { |word| word.is_a?(Hash) ? word : word.to_s })
    raise "#{command.join(' ')} failed" unless status.success?

    JSON.parse(output)
  end

  # Adds WAL bytes and commits per step, creation and history included.
  def accounted
    before = counters
    figures = yield
    bytes, commits = counters.zip(before).map { |later, earlier| later - earlier }
    figures.merge("wal_bytes_per_step" => bytes / figures["steps"], "commits_per_step" => commits / figures["steps"],
                  "hot_updates_percent" => hot_updates)
  end

  # Share of updates of steps and tasks that touched no index.
  def hot_updates
    query("select 100.0 * sum(n_tup_hot_upd) / sum(n_tup_upd) from pg_stat_user_tables " \
          "where relname in ('tasker_workflow_steps', 'tasker_tasks')").first.first.to_f
  end

  def counters
    query("select pg_stat_force_next_flush()")
    query("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float, xact_commit::float from pg_stat_database " \
          "where datname = current_database()").first.map(&:to_f)
  end

  # Statements of a worker that has nothing to do, as the database counts the calls of its functions.
  def idle
    query("alter database tasker_bench set track_functions = 'pl'")
    ActiveRecord::Base.establish_connection(@database)
    worker = TaskerCore::Worker.new.start
    sleep 15 # a session that rests tells its counts after ten seconds
    before = calls
    sleep 20
    statements = calls - before
    worker.stop
    ActiveRecord::Base.remove_connection
    { "statements_per_second" => statements / 20.0 }
  end

  # Those that claim_steps calls itself are left out.
  def calls
    query("select coalesce(sum(calls), 0) from pg_stat_user_functions where funcname not in ('heartbeat', 'ready_heads', " \
          "'note_look', 'first_claim', 'first_waiting', 'open_claims')").first.first.to_i
  end

  def query(sql)
    connection = PG.connect(@database)
    connection.exec(sql).values
  ensure
    connection&.close
  end
end

# Prints the figures with budgets and ratios.
class Table
  def initialize(figures)
    @figures = figures
  end

  def print
    limit = figure(:commits, "commits_per_second")
    puts "                                                               measured       budget"
    row("single-row commits/s, #{Bench::CLIENTS} clients (the machine's own limit)", limit)
    { engine: "engine, Rust no-op handlers, one process: steps/s", ruby_1_process: "Ruby no-op handlers, one process: steps/s",
      ruby_2_processes: "Ruby no-op handlers, two processes: steps/s" }.each do |name, title|
      rate = figure(name, "steps_per_second")
      row(title, rate, { engine: 10_000, ruby_1_process: 5_000 }[name], least: true)
      row("  per single-row commit of the limit", rate / limit)
      row("  tasks created per second, 500 a statement", figure(name, "tasks_created_per_second"))
      row("  WAL bytes per step, creation and history included", figure(name, "wal_bytes_per_step"), 1_350)
      row("  commits per step", figure(name, "commits_per_step"), 0.05)
      row("  HOT updates of steps and tasks, per cent", figure(name, "hot_updates_percent"), 99, least: true)
    end
    latency("created → started", "created_to_started_ms", 5)
    latency("finished → dependent started", "finished_to_dependent_ms", 3)
    row("chain of 40 steps of 10 ms: overhead per step, ms", figure(:chain, "overhead_ms_per_step"))
    row("idle worker: statements/s besides heartbeat", figure(:idle, "statements_per_second"), 0.5)
  end

  private

  def latency(title, key, budget)
    { engine_latency: "Rust", ruby_latency: "Ruby" }.each do |name, handlers|
      values = @figures.fetch(name).fetch(key)
      row("#{title}, idle, #{handlers}: p50 ms", values["p50"], budget)
      row("  p95 / p99 ms", format("%.1f / %.1f", values["p95"], values["p99"]))
    end
  end

  def row(title, value, budget = nil, least: false)
    met = budget && (least ? value >= budget : value <= budget)
    shown = value.is_a?(String) ? value : number(value)
    bound = "#{least ? '≥' : '≤'} #{number(budget)}" if budget
    puts format("%-58s %12s %12s %s", title, shown, bound, budget && (met ? "✔" : "✘"))
  end

  def number(value) = value >= 100 ? value.round.to_s.gsub(/\B(?=(\d{3})+\z)/, ",") : format("%.3g", value)

  def figure(name, key) = @figures.fetch(name).fetch(key)
end

options = { scale: 1 }
OptionParser.new do |parser|
  parser.on("--json FILE") { |file| options[:json] = file }
  parser.on("--scale N", Integer) { |scale| options[:scale] = scale }
end.parse!

TaskerCore::Development::Database.with_server do |url|
  bench = Bench.new(url, options[:scale]).run
  File.write(options[:json], JSON.pretty_generate(bench.figures)) if options[:json]
  Table.new(bench.figures).print
end
