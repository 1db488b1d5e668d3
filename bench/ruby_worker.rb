# frozen_string_literal: true

# Measures workers with Ruby no-op handlers; bin/bench runs it and reads its JSON.
#
#   ruby bench/ruby_worker.rb throughput TASKS PROCESSES THREADS [PATTERNS]   with a listener for these events, or,
#                                                                             after "durable:", a durable subscriber
#   ruby bench/ruby_worker.rb latency TASKS
#
# TASKER_BENCH_WAIT and TASKER_BENCH_COMPUTE are the milliseconds for which each handler sleeps and computes (0).
# With TASKER_BENCH_CONNECTIONS the workers' connections are counted meanwhile, which costs a few percent.
#
# The database is DATABASE_URL's, prepared and empty.

require "tasker_core"

ActiveRecord::Base.establish_connection(ENV.fetch("DATABASE_URL"))
format, log = ENV["TASKER_BENCH_LOG"]&.split(":", 2) # bench/logging
TaskerCore.logger = log ? ActiveSupport::Logger.new(log, level: :info) : Logger.new($stderr, level: :warn)
TaskerCore.logger.formatter = TaskerCore::JsonFormatter.new if format == "json"

# Records the time of each call and returns nothing.
class Noop < TaskerCore::StepHandler
  CALLS = Queue.new
  WAIT, COMPUTE = %w[WAIT COMPUTE].map { |name| ENV.fetch("TASKER_BENCH_#{name}", "0").to_f / 1000 }

  def call(_context)
    CALLS << Process.clock_gettime(Process::CLOCK_MONOTONIC)
    sleep WAIT if WAIT.positive?
    compute if COMPUTE.positive?
    nil
  end

  private

  # By the thread's own time, so that threads that wait for Ruby's lock compute for as long as others.
  def compute
    till = Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID) + COMPUTE
    Integer.sqrt(10**40) while Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID) < till
  end
end

# One root, three branches, one join.
class Wide < TaskerCore::Workflow
  step :root, handler: Noop
  3.times { |number| step "branch_#{number}", depends_on: :root, handler: Noop }
  step :join, depends_on: Array.new(3) { |number| "branch_#{number}" }, handler: Noop
end

class Pair < TaskerCore::Workflow
  step :first, handler: Noop
  step :second, depends_on: :first, handler: Noop
end

def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

# Those of the workers.
def open_connections
  return 0 unless ENV.key?("TASKER_BENCH_CONNECTIONS")

  ActiveRecord::Base.connection.select_value("select count(*) from pg_stat_activity " \
                                             "where datname = current_database() and application_name = 'tasker_core'")
end

def live? = TaskerCore::Task.where(ended_at: nil).exists?

def percentiles(values)
  sorted = values.sort
  { p50: 0.5, p95: 0.95, p99: 0.99 }.transform_values do |share|
    (sorted[((sorted.size - 1) * share).round] * 1000).round(3)
  end
end

# Subscribes a listener that counts events.
def listen(patterns)
  return subscribe(patterns.delete_prefix("durable:").split(",")) if patterns.start_with?("durable:")

  received = Hash.new(0)
  patterns.split(",").each { |pattern| TaskerCore.events.subscribe(pattern) { |event| received[event.name] += 1 } }
end

def subscribe(patterns)
  Class.new(TaskerCore::Subscriber) do
    durable "counter"
    subscribe_to(*patterns)
    received = Hash.new(0)
    define_method(:call) { |event| received[event.name] += 1 }
  end
  TaskerCore::Events::OutboxDispatcher.new(configuration: TaskerCore.config).register
end

# Waits until all events of the tasks are delivered; the number of events, and events per second.
def delivered(began)
  last = ActiveRecord::Base.connection.select_value("select pg_sequence_last_value('tasker_outbox_events_id_seq')").to_i
  behind = "select min(cursor_id) < #{last} from tasker_subscriptions"
  sleep 0.01 while ActiveRecord::Base.connection.select_value(behind)
  { events: last, events_per_second: last / (now - began) }
end

def throughput(tasks, processes, threads, patterns = "")
  listen(patterns)
  tasks, processes, threads = [tasks, processes, threads].map { |number| Integer(number) }
  began = now
  Array.new(tasks) { {} }.each_slice(500) { |inputs| Wide.create_all!(inputs) }
  created = now - began
  configuration = TaskerCore.config.with(execution: { threads: threads })
  started = now
  pids = Array.new(processes) do |number|
    fork { exit! TaskerCore::Worker::ChildProcess.new(configuration: configuration, number: number).run }
  end
  # From the first claim to the last end, by the database's clock, so that booting the processes does not count.
  connections = 0
  connections = [connections, open_connections].max while sleep(0.05) && live?
  columns = Arel.sql("extract(epoch from max(finished_at) - min(claimed_at))::float, count(*)")
  seconds, steps = TaskerCore::StepAttempt.pick(columns)
  delivery = patterns.start_with?("durable:") ? delivered(started) : {}
  pids.each { |pid| Process.kill("TERM", pid) }.each { |pid| Process.wait(pid) }
  { steps: steps, seconds: seconds, steps_per_second: steps / seconds, tasks_created_per_second: tasks / created,
    connections: connections, **delivery }
end

def latency(tasks)
  tasks = Integer(tasks)
  worker = TaskerCore::Worker.new.start
  Pair.create!.wait(timeout: 10)
  Noop::CALLS.clear
  samples = Array.new(tasks) do
    sleep 0.04 # until the worker is idle
    began = now
    Pair.create!
    first = Noop::CALLS.pop
    [first - began, Noop::CALLS.pop - first]
  end
  worker.stop
  { created_to_started_ms: percentiles(samples.map(&:first)),
    finished_to_dependent_ms: percentiles(samples.map(&:last)) }
end

what, *arguments = ARGV
measurement = { "throughput" => :throughput, "latency" => :latency }.fetch(what)
puts JSON.generate(send(measurement, *arguments))
