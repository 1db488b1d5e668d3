# frozen_string_literal: true

require "tmpdir"

# Workers for tests, in this process or in processes of their own; they end with the test.
module Workers
  # Runs a worker in this process while the block runs.
  def with_worker(threads: 3, **sections)
    configuration = TaskerCore.config.with({ execution: { threads: threads } }.deep_merge(sections))
    worker = TaskerCore::Worker.new(configuration: configuration, name: "test").start
    yield worker
  ensure
    worker&.stop(timeout: 10)
  end

  # Runs `tasker work` on the dummy application while the block runs.
  # @yieldparam pid [Integer] of the supervisor
  # @yieldparam log [String] path of its output
  def with_worker_processes(processes: 1, threads: 2, queues: "*", variables: {})
    log = File.open(File.join(Dir.tmpdir, "tasker-work-#{Process.pid}-#{queues.hash}.log"), "w+")
    pid = spawn({ "RAILS_ENV" => "test",
                  **variables }, RbConfig.ruby, "-Ilib", "exe/tasker", "work", "--processes", processes.to_s,
                "--threads", threads.to_s, "--queues", queues, "--require", "spec/dummy/config/environment.rb",
                chdir: root, out: log, err: log)
    yield pid, log.path
  ensure
    end_process(pid)
    File.delete(log.path)
  end

  def end_process(pid)
    return unless pid

    Process.kill("TERM", pid)
    Process.wait(pid)
  rescue Errno::ESRCH, Errno::ECHILD
    nil # it has ended already
  end

  # Awaits a condition; fails the test if it does not become true in time.
  def eventually(within: 120)
    deadline = TaskerCore::Support::MonotonicClock.now + within
    until (seen = yield)
      late = TaskerCore::Support::MonotonicClock.now > deadline
      raise "the awaited condition has not come true within #{within} s" if late

      Thread.pass
      IO.select(nil, nil, nil, 0.01)
    end
    seen
  end

  # Sweeps with the clock moved forward and wakes the workers. Returns the number of waiting steps that were due.
  def sweep_after(seconds)
    connection = ActiveRecord::Base.connection
    due = connection.transaction do
      connection.execute("set local tasker_core.clock_offset = '#{seconds} seconds'")
      connection.exec_query("select (tasker_core_v1.sweep(null, 1000)->>'due_steps')::integer as due").rows.first.first
    end
    connection.execute("select tasker_core_v1.wake_workers('{default}')")
    due
  end

  def root = File.expand_path("../..", __dir__)

  def outline(task) = task.steps.map { |step| [step.name, step.state, step.attempts] }
end

RSpec.configure do |config|
  config.include Workers
  config.before { Repairable.repaired = false }
  config.after do
    # No process caches any of these rows.
    ActiveRecord::Base.connection.execute("truncate #{TaskerCore::Postgres::Tables::NAMES.join(', ')}")
  end
end
