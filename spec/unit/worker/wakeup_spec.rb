# frozen_string_literal: true

RSpec.describe TaskerCore::Worker::Wakeup do
  # The number of notices sent for three creations in a row.
  def notices(debounce)
    configuration = TaskerCore.config
    TaskerCore.configure(configuration.with(discovery: { notify_debounce: debounce }))
    queue = "queue_#{debounce}"
    sent = 0
    allow(TaskerCore::Postgres::Functions).to receive(:call).with(anything, :wake_workers, [queue]) { (sent += 1) && 1 }
    3.times { described_class.send_for([queue, queue]) }
    sent
  ensure
    TaskerCore.configure(configuration)
  end

  it "omits notices within the debounce time of another" do
    expect(notices("1s")).to eq 1
    expect(notices("0s")).to eq 3
  end

  it "notifies the workers of each shard" do
    allow(TaskerCore::ApplicationRecord).to receive(:current_shard).and_return(:first, :second)
    allow(TaskerCore::Postgres::Functions).to receive(:run).with(:wake_workers, ["shared"]).and_return(1)
    2.times { described_class.send_for(["shared"]) }
    expect(TaskerCore::Postgres::Functions).to have_received(:run).twice
  end

  it "does not count a notice without an idle worker" do
    allow(TaskerCore::Postgres::Functions).to receive(:call).with(anything, :wake_workers,
                                                                  ["lonely"]).twice.and_return(0)
    2.times { described_class.send_for(["lonely"]) }
    expect(TaskerCore::Postgres::Functions).to have_received(:call).twice
  end
end
