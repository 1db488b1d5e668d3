# frozen_string_literal: true

# How many handlers run at once where a setting limits them.
RSpec.describe "Limits" do
  # How many ran at most at once, by group; of a group in `meeting`, so many wait for each other.
  def most_at_once(tasks, meeting:, **sections)
    Crowd.meet(**meeting)
    with_worker(threads: 5, **sections) { expect(tasks.map { _1.wait(timeout: 60).state }).to all(eq "complete") }
    Array.new(Crowd::BESIDE.size) { Crowd::BESIDE.pop }.group_by(&:first).transform_values { |seen| seen.map(&:last).max }
  end

  it "lets as many steps of an external system run as its concurrency says, and gives the rest back for a while" do
    task = Crowd.create!
    limited = { systems: { bank: { concurrency: 2 } }, execution: { claim_ahead_wait: "20ms" } }
    expect(most_at_once([task], meeting: { bank: 2 }, **limited)).to include(bank: 2, all: be_between(2, 3))
    expect(task.results["call_0"]).to eq("at" => "https://bank.example")
    expect(task.steps.map(&:attempts)).to eq [1] * 5
  end

  it "lets as many steps of a task run as execution.parallel_steps_per_task says, and others beside them" do
    one, other = Array.new(2) { Crowd.create! }
    expect(most_at_once([one, other], meeting: { all: 2 }, execution: { parallel_steps_per_task: 1 }))
      .to include(one.id => 1, other.id => 1, all: 2)
  end

  it "sets none where there are no more threads than may run" do
    expect(most_at_once([Crowd.create!], meeting: { bank: 3 })[:bank]).to be_between(3, 4)
  end
end
