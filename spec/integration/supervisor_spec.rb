# frozen_string_literal: true

# `tasker work`: signals, dead children, draining.
RSpec.describe TaskerCore::Supervisor do
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }

  def started(attempt = 1) = Dir["#{@directory}/started-#{attempt}-*"]

  def processes = TaskerCore::ApplicationRecord.connection.select_values("select pid from tasker_processes order by pid")

  def wait_for_exit(pid)
    status = nil
    eventually { Process.wait2(pid, Process::WNOHANG)&.then { |_, ended| status = ended } }
    status
  end

  it "starts another process for one that died" do
    with_worker_processes(processes: 2) do
      first = eventually { processes.then { |pids| pids if pids.size == 2 } }
      Process.kill("KILL", first.first)
      eventually { (processes - first).size == 1 && processes.size == 2 }
    end
    expect(processes).to be_empty
  end

  it "drains on TERM: what runs is finished, nothing more is taken" do
    tasks = [Slow.create!(directory: @directory), Slow.set(priority: 9).create!(directory: @directory)]
    with_worker_processes(processes: 1, threads: 1) do |pid, log|
      eventually { started.any? }
      Process.kill("TERM", pid)
      eventually { File.read(log).include?("worker 0 takes nothing more") }
      File.write("#{@directory}/go", "")
      expect(wait_for_exit(pid)).to be_success
    end
    expect(tasks.map { |task| [task.state, task.attempts.map(&:outcome)] }).to eq [["complete", ["completed"]], ["pending", []]]
    expect(processes).to be_empty
  end

  it "drains as well when the supervisor is killed" do
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

  it "stops at once on a second TERM: the running step is given back without spending an attempt" do
    task = Slow.create!(directory: @directory)
    with_worker_processes(processes: 1, threads: 1) do |pid|
      eventually { started.any? }
      Process.kill("TERM", pid)
      eventually { TaskerCore::ApplicationRecord.connection.select_value("select 1") && File.exist?(started.first) }
      Process.kill("TERM", pid)
      expect(wait_for_exit(pid).exitstatus).to be_a Integer
    end
    expect(task.steps.first).to have_attributes(state: "ready", attempts: 0)
    expect(task.attempts.map(&:outcome)).to eq ["released"]
  end
end
