# frozen_string_literal: true

# The demo, started by bin/demo after the build. Exit status 0 if the totals match the file.

require "optparse"
require "tasker_core"

$stdout.sync = true
ORDERS = File.expand_path("orders.csv", __dir__)
APPLICATION = File.expand_path("application.rb", __dir__)
TASKER = File.expand_path("../exe/tasker", __dir__)

# Fills the shop, runs the workers, shows the outcomes, and checks them.
class Demo
  PATIENCE = 300 # seconds

  def initialize(url)
    ENV["DATABASE_URL"] = url
    ENV["RAILS_ENV"] = "production"
    TaskerCore::Development::Database.prepare(url)
    load_application
    @report = Report.new(ORDERS)
  end

  def run
    ShopData.create_tables
    ShopData.import(ORDERS)
    @total = TaskerCore::Task.count
    puts "#{@total} orders in the database, each with a task of four steps, created in the order's own transaction."
    with_workers { watch }
    show
    @report.differences.empty?
  end

  private

  def load_application
    require APPLICATION
    require_relative "report"
  end

  def with_workers
    log = File.open(File.join(Dir.tmpdir, "tasker-demo-#{Process.pid}.log"), "w+")
    pid = spawn(worker_variables, RbConfig.ruby, "-I#{__dir__}/../lib", TASKER, "work", "--processes", "2",
                "--threads", "5", "--require", APPLICATION, out: log, err: log)
    yield
    Process.kill("TERM", pid)
    _, status = Process.wait2(pid)
    pid = nil
    puts "The workers have drained and exited (#{status.success? ? 'cleanly' : status})."
  rescue StandardError
    warn File.read(log.path)
    raise
  ensure
    Process.kill("KILL", pid) if pid
    File.delete(log.path)
  end

  def worker_variables = {}

  def watch
    deadline = now + PATIENCE
    until (ended = count_ended) == @total
      raise "after #{PATIENCE} s only #{ended} of #{@total} orders have ended" if now > deadline

      progress(ended)
      kill_a_worker if @killed.nil? && ended > @total / 3
      sleep 0.1
    end
    progress(ended)
    puts
    raise "all orders have ended, but no worker was killed" unless @killed
  end

  def count_ended = TaskerCore::Task.uncached { TaskerCore::Task.where.not(ended_at: nil).count }

  def progress(ended)
    bar = "#" * (40 * ended / @total)
    $stdout.tty? ? print("\r[#{bar.ljust(40)}] #{ended}/#{@total}") : print("#{ended} ")
  end

  # Kills the process with the most claims, so that it is killed in the middle of its work.
  def kill_a_worker
    @killed = ActiveRecord::Base.connection.select_one(<<~SQL)
      select p.pid, p.id, count(*) as claims
      from tasker_processes p join tasker_claimed_steps c on c.process_id = p.id #{victims}
      group by p.id order by claims desc limit 1
    SQL
    return unless @killed

    Process.kill("KILL", @killed["pid"])
    puts "", "Killed #{worker} process #{@killed['pid']} with -9 while it held #{@killed['claims']} steps."
  end

  # A condition on the processes.
  def victims = ""

  def worker = "worker"

  def show
    table
    checks
    timeline
  end

  def table
    puts "", "Outcomes of the tasks:", "  orders                     number          total"
    @report.actual.sort.each do |state, outcome|
      puts format("  %-24s %8d %14s", state, outcome.orders, money(outcome.cents))
    end
    attempts = TaskerCore::StepAttempt.group(:outcome).count
    puts "  attempts: #{attempts.map { |outcome, number| "#{number} #{outcome}" }.join(', ')}"
    puts "  retried steps: #{TaskerCore::StepAttempt.where('attempt > 1').distinct.count('(task_id, position)')}"
  end

  def checks
    puts "", "Compared with #{File.basename(ORDERS)}:"
    @report.expected.sort.each { |state, outcome| check(state, outcome, @report.actual[state]) }
    @report.effects.each { |name, (expected, got)| check(name, expected, got) }
  end

  def check(name, expected, got)
    shown = expected == got ? show_one(got) : "#{show_one(got)} instead of #{show_one(expected)}"
    puts format("  %s %-24s %s", expected == got ? "✔" : "✘", name, shown)
  end

  def show_one(value) = value.respond_to?(:orders) ? "#{value.orders} orders, #{money(value.cents)}" : value.to_s

  def timeline
    task = TaskerCore::Task.find(TaskerCore::StepAttempt.where(attempt: 2, outcome: "completed").minimum(:task_id))
    names = task.steps.to_h { |step| [step.position, step.name] }
    puts "", "Order #{task.input['order_id']} needed a second attempt:"
    task.attempts.sort_by(&:started_at).each do |attempt|
      from, to = [attempt.started_at, attempt.finished_at].map { |time| time - task.created_at }
      shown = ": #{attempt.error['message']}" if attempt.error
      puts format("  %7.3f s → %7.3f s  %-15s attempt %d  %-9s by process %d%s", from, to, names[attempt.position],
                  attempt.attempt, attempt.outcome, attempt.process_id, shown)
    end
  end

  def money(cents) = format("%.2f", cents / 100.0)

  def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
end

adapter = nil
begin
  OptionParser.new("Usage: bin/demo [--dispatch ADAPTER]") do |parser|
    parser.on("--dispatch ADAPTER", %w[sidekiq solid_queue good_job],
              "run the steps as jobs of Active Job's queue: sidekiq, solid_queue or good_job") do |name|
      adapter = name
    end
  end.parse!
rescue OptionParser::ParseError => e
  abort "bin/demo: #{e.message}: use --dispatch sidekiq, solid_queue or good_job"
end

begin
  right = TaskerCore::Development::Database.with_server do |url|
    TaskerCore::Development::Database.temporary(url, "tasker_demo") do |database|
      next Demo.new(database).run unless adapter

      require_relative "queue_demo"
      QueueDemo.new(database, adapter).run
    end
  end
  puts "", right ? "The totals match the file." : "THE TOTALS DO NOT MATCH THE FILE."
  exit right ? 0 : 1
rescue TaskerCore::Development::PrivatePostgres::Unavailable => e
  abort "bin/demo: #{e.message}"
end
