# frozen_string_literal: true

require "puma"
require "puma/launcher"
require "puma/plugin/tasker_core"

RSpec.describe Puma::TaskerCoreWorker do
  it "follows a phased restart if it began while a web worker was replaced" do
    reads = 0
    stats = { phase: 0, worker_status: [] }
    launcher = instance_double(Puma::Launcher, restart_dir: Dir.pwd, log_writer: Puma::LogWriter.null)
    allow(launcher).to receive(:stats) { (reads += 1) && stats }
    signals = []
    allow(Process).to receive_messages(spawn: (2**22) + 1, wait2: nil)
    allow(Process).to receive(:kill) { |signal, _| signals << signal }

    worker = described_class.new(launcher)
    worker.send(:run)
    eventually { reads.positive? }
    [[0, 11], [1, 12]].each do |phase, pid|
      stats = { phase: phase, worker_status: [{ index: 0, pid: pid }] }
      seen = reads
      eventually { reads >= seen + 2 }
    end
    expect(signals).to eq ["TERM"]
  ensure
    worker&.restart
    ENV.delete("TASKER_CORE_DRAINING")
  end
end
