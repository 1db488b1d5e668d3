# frozen_string_literal: true

# `tasker work`: signals, dead children, draining.
RSpec.describe TaskerCore::Worker::Supervisor do
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }

  def started(attempt = 1) = Dir["#{@directory}/started-#{attempt}-*"]

  def processes
    TaskerCore::ApplicationRecord.connection.select_values("select pid from tasker_processes order by pid")
  end

  def wait_for_exit(pid)
    status = nil
    eventually { Process.wait2(pid, Process::WNOHANG)&.then { |_, ended| status = ended } }
    status
  end

  it "replaces a process that died" do
    with_worker_processes(processes: 2) do
      first = eventually { processes.then { |pids| pids if pids.size == 2 } }
      Process.kill("KILL", first.first)
      eventually { (processes - first).size == 1 && processes.size == 2 }
    end
    expect(processes).to be_empty
  end

  it "starts execution.processes processes" do
    supervisor = described_class.new(configuration: TaskerCore.config.with(execution: { processes: 3 }),
                                     out: StringIO.new)
    started = []
    allow(supervisor).to receive(:trap_signals)
    allow(supervisor).to receive(:start) { |child| started << child.number }
    supervisor.run
    expect(started).to eq [0, 1, 2]
  end

  it "drains on TERM: finishes running steps and claims none" do
    tasks = [Slow.create!(directory: @directory), Slow.set(priority: 9).create!(directory: @directory)]
    with_worker_processes(processes: 1, threads: 1) do |pid, log|
      eventually { started.any? }
      Process.kill("TERM", pid)
      eventually { File.read(log).include?("worker 0 claims no more steps") }
      File.write("#{@directory}/go", "")
      expect(wait_for_exit(pid)).to be_success
    end
    expect(tasks.map { |task| [task.state, task.attempts.map(&:outcome)] })
      .to eq [["complete", ["completed"]], ["pending", []]]
    expect(processes).to be_empty
  end

  it "drains when the process given as --parent is killed" do
    log = "#{@directory}/log"
    work = "#{RbConfig.ruby} -Ilib exe/tasker work --parent $$ --require spec/dummy/config/environment.rb"
    parent = spawn({ "RAILS_ENV" => "test" }, "sh", "-c", "#{work} & wait", chdir: root, out: log, err: log)
    eventually { processes.any? }
    Process.kill("KILL", parent)
    Process.wait(parent)
    eventually { processes.empty? }
    expect(File.read(log)).to include("tasker: the parent process has ended: draining", "worker 0 claims no more steps")
  end

  it "drains when the supervisor is killed" do
    task = Slow.create!(directory: @directory)
    with_worker_processes(processes: 1, threads: 1) do |pid|
      eventually { started.any? }
      Process.kill("KILL", pid)
      Process.wait(pid)
      File.write("#{@directory}/go", "")
      eventually { processes.empty? }
    end
    expect(task.attempts.map(&:outcome)).to eq ["completed"]
  end

  it "releases running steps after execution.shutdown_timeout" do
    task = Slow.create!(directory: @directory)
    configuration = TaskerCore.config.with(execution: { threads: 1, shutdown_timeout: "100ms" })
    worker = TaskerCore::Worker.new(configuration: configuration, name: "test").start
    eventually { started.any? }
    expect(elapsed { worker.stop }).to be < 22
    expect([task.steps.first.state, task.attempts.map(&:outcome)]).to eq ["ready", ["released"]]
  end

  it "writes Rust's log lines when a worker process ends" do
    log = "#{@directory}/log"
    child = fork do
      TaskerCore.logger = ActiveSupport::Logger.new(log)
      allow(TaskerCore::Worker).to receive(:new) do
        TaskerCore.logging.configure_extension
        context = TaskerCore::Correlation::Context.new(correlation_id: TaskerCore::Correlation.of_process)
        TaskerCore::Bridge.offer_log(Logger::WARN, "said last", context)
        raise TaskerCore::DatabaseError.new("away")
      end
      exit!(TaskerCore::Worker::ChildProcess.new(configuration: TaskerCore.config).run)
    end
    expect([Process.wait2(child).last.exitstatus, File.read(log)]).to match [1, /said last/]
  end

  it "stops at once on a second TERM and releases its step" do
    task = Slow.create!(directory: @directory)
    with_worker_processes(processes: 1, threads: 1) do |pid, log|
      eventually { started.any? }
      Process.kill("TERM", pid)
      eventually { File.read(log).include?("TERM: draining") }
      Process.kill("TERM", pid)
      expect(wait_for_exit(pid).exitstatus).to be_a Integer
      expect(File.read(log)).to include "TERM: stopping at once"
    end
    expect(task.steps.first).to have_attributes(state: "ready", attempts: 0)
    expect(task.attempts.map(&:outcome)).to eq ["released"]
  end

  # Runs a supervisor in a child of this process, so that a test may change what it and its children do.
  # @yieldparam pid [Integer] of the supervisor
  # @yieldparam lines [Array<String>] its output so far
  def supervise(change = -> {}, processes: 1, shutdown_timeout: 25)
    settings = TaskerCore.config.with(execution: { processes: processes, threads: 1,
                                                   shutdown_timeout: shutdown_timeout })
    @reader, writer = IO.pipe
    pid = fork do
      @reader.close
      $stderr.reopen(File::NULL)
      change.call
      exit!(described_class.new(configuration: settings, out: writer).run)
    end
    writer.close
    lines = []
    reading = Thread.new { @reader.each_line { |line| lines << line } }
    yield pid, lines
  ensure
    Process.kill("KILL", pid) unless @ended
    reading&.kill
  end

  def children(pid)
    IO.popen(%w[ps -A -o pid=,ppid=],
             &:readlines).map { |line| line.split.map(&:to_i) }.select { _2 == pid }.map(&:first)
  end

  def end_of(pid) = wait_for_exit(pid).tap { @ended = true }

  def worker_pid(lines) = eventually { lines.grep(/worker 0 started as process/).last&.slice(/\d+$/)&.to_i }

  it "keeps a signal that reaches a child before its own traps" do
    early = Module.new do
      def run_child(...)
        Process.kill("TERM", Process.pid)
        super
      end
    end
    supervise(-> { described_class.prepend(early) }) do |pid, lines|
      eventually { lines.grep(/worker 0 .*died: pid \d+ exit 0/).any? }
      Process.kill("TERM", pid)
      expect(end_of(pid)).to be_success
    end
  end

  it "ends after one TERM while its children are starting" do
    5.times do
      supervise(-> {}, processes: 2) do |pid, lines|
        eventually { lines.grep(/started as process/).size == 2 }
        Process.kill("TERM", pid)
        expect(end_of(pid)).to be_success
      end
    end
    expect(processes).to be_empty
  end

  it "ends a slowly starting child in time" do
    slow = Module.new { def start = File.write(ENV.fetch("SLOW"), "") && sleep }
    child = TaskerCore::Worker::ChildProcess
    limit = -> { child.send(:remove_const, :MARGIN) && child.const_set(:MARGIN, 0.2) }
    change = -> { (ENV["SLOW"] = "#{@directory}/slow") && TaskerCore::Worker.prepend(slow) && limit.call }
    supervise(change, shutdown_timeout: 0.1) do |pid, lines|
      eventually { File.exist?("#{@directory}/slow") }
      Process.kill("TERM", pid)
      expect(end_of(pid).exitstatus).to eq 1
      expect(lines.join).not_to include "is killed"
    end
  end

  it "kills a child in time whose handler replaced the traps" do
    deaf = Module.new do
      def start
        super.tap { %w[TERM INT QUIT HUP].each { |signal| trap(signal, "IGNORE") } }.tap do
          File.write(ENV.fetch("DEAF"), "")
        end
      end
    end
    change = lambda do
      ENV["DEAF"] = "#{@directory}/deaf"
      TaskerCore::Worker.prepend(deaf)
      described_class.send(:remove_const, :KILL_MARGIN)
      described_class.const_set(:KILL_MARGIN, 0.3)
    end
    supervise(change, shutdown_timeout: 0.1) do |pid, lines|
      eventually { File.exist?("#{@directory}/deaf") }
      Process.kill("TERM", pid)
      expect(end_of(pid).exitstatus).to eq 1
      eventually { lines.join.include?("did not stop in time and is killed") }
    end
  end

  it "drains when supervisor and child both get each signal" do
    task = Slow.create!(directory: @directory)
    supervise do |pid, lines|
      eventually { started.any? }
      child = worker_pid(lines)
      [child, pid, child].each { |process| Process.kill("TERM", process) }
      eventually { lines.grep(/draining/).any? }
      File.write("#{@directory}/go", "")
      expect(end_of(pid)).to be_success
    end
    expect(task.attempts.map(&:outcome)).to eq ["completed"]
  end

  it "drains on HUP unless HUP is ignored" do
    supervise(-> { trap("HUP", "DEFAULT") }) do |pid, lines| # this suite may run under nohup itself
      worker_pid(lines)
      Process.kill("HUP", pid)
      expect(end_of(pid)).to be_success
    end
    supervise(-> { trap("HUP", "IGNORE") }) do |pid, lines|
      worker_pid(lines)
      Process.kill("HUP", pid)
      Process.kill("TERM", pid)
      expect(end_of(pid)).to be_success
      expect(lines.grep(/draining|at once/)).to contain_exactly(/TERM: draining/)
    end
  end

  it "ends at once on TERM during a pause before a replacement" do
    broken = Module.new { def run = 1 }
    supervise(-> { TaskerCore::Worker::ChildProcess.prepend(broken) }) do |pid, lines|
      eventually { lines.grep(/another starts in 0.[48] s/).any? }
      Process.kill("TERM", pid)
      expect(end_of(pid)).to be_success
    end
  end

  it "retries to start a child when the system has no room" do
    full = Module.new { def fork = (@refused = !@refused) ? raise(Errno::EAGAIN) : super }
    supervise(-> { described_class.prepend(full) }) do |pid, lines|
      eventually { lines.grep(/worker 0 could not be started: Resource temporarily unavailable.*another starts/).any? }
      worker_pid(lines)
      Process.kill("TERM", pid)
      expect(end_of(pid)).to be_success
    end
  end

  it "replaces a child whose status the application has reaped" do
    greedy = Module.new do
      def reap
        @children.each_key { |pid| Process.wait(pid, Process::WNOHANG) }
        super
      end
    end
    supervise(-> { described_class.prepend(greedy) }) do |pid, lines|
      first = worker_pid(lines)
      Process.kill("KILL", first)
      eventually { worker_pid(lines) != first }
      expect(lines.join).to include "died: its status is not known"
      Process.kill("TERM", pid)
      expect(end_of(pid).exitstatus).to eq 1
    end
  end

  it "sets process titles that show the work" do
    titles = -> { IO.popen(%w[ps -A -o args=], &:readlines).map(&:strip).grep(/\Atasker: /) }
    Slow.create!(directory: @directory)
    supervise do |pid, _|
      eventually { titles.call.include?("tasker: supervisor dummy [1 worker]") }
      eventually { titles.call.include?("tasker: worker 0 dummy, 1 running") }
      Process.kill("TERM", pid)
      eventually { titles.call.include?("tasker: supervisor dummy [1 worker], draining") }
      eventually { titles.call.include?("tasker: worker 0 dummy, 1 running, draining") }
      File.write("#{@directory}/go", "")
      end_of(pid)
    end
  end

  it "prints at its start what runs where" do
    supervise do |pid, lines|
      worker_pid(lines)
      expect(lines.first).to match(
        /\Atasker: tasker_core #{TaskerCore::VERSION}: database #{TEST_DATABASE}.*, queue \*, 1 process of 1 thread$/
      )
      Process.kill("TERM", pid)
      end_of(pid)
    end
  end

  it "continues when the reader of its output is gone" do
    File.write("#{@directory}/app.rb", <<~RUBY)
      require "#{root}/spec/dummy/config/environment"
      TaskerCore.logger = ActiveSupport::Logger.new(STDOUT) # as in a container
      class Chatty < TaskerCore::Workflow
        step :only
        def only(context)
          puts "x" * 100_000
          warn "y"
          STDOUT.flush
          context.logger.info("z")
          {}
        end
      end
    RUBY
    reader, writer = IO.pipe
    pid = spawn({ "RAILS_ENV" => "test" }, RbConfig.ruby, "-Ilib", "exe/tasker", "work", "--require",
                "#{@directory}/app.rb", chdir: root, out: writer, err: writer)
    writer.close
    eventually { processes.any? }
    reader.close
    stub_const(
      "Chatty",
      Class.new(TaskerCore::Workflow) { define_method(:only) { |_| {} } }.tap { |workflow| workflow.step(:only) }
    )
    2.times do
      task = Chatty.create!
      eventually { task.reload.state == "complete" }
      killed = children(pid).first
      Process.kill("KILL", killed)
      eventually { (children(pid) - [killed]).any? }
    end
    Process.kill("TERM", pid)
    expect(wait_for_exit(pid)).to be_success
  ensure
    end_process(pid)
  end
end
