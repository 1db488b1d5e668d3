# frozen_string_literal: true

# Settings that limit how many handlers run at once.
RSpec.describe "Limits" do
  # The most handlers that ran at once, by group; those of a group in `meeting` wait until so many are running.
  def most_at_once(tasks, meeting:, **sections)
    Crowd.meet(**meeting)
    with_worker(threads: 5, **sections) { expect(tasks.map { _1.wait(timeout: 120).state }).to all(eq "complete") }
    Array.new(Crowd::BESIDE.size) { Crowd::BESIDE.pop }.group_by(&:first).transform_values do |seen|
      seen.map(&:last).max
    end
  end

  it "bound parallel steps per external system" do
    task = Crowd.create!
    limited = { systems: { bank: { concurrency: 2 } }, execution: { claim_ahead_wait: "20ms" } }
    expect(most_at_once([task], meeting: { bank: 2 }, **limited)).to include(bank: 2, all: be_between(2, 3))
    expect(task.results["call_0"]).to eq("at" => "https://bank.example")
    expect(task.steps.map(&:attempts)).to eq [1] * 5
  end

  it "bound parallel steps per task, beside other tasks" do
    one, other = Array.new(2) { Crowd.create! }
    expect(most_at_once([one, other], meeting: { all: 2 }, execution: { parallel_steps_per_task: 1 }))
      .to include(one.id => 1, other.id => 1, all: 2)
  end

  it "have no effect with fewer threads than the limit" do
    expect(most_at_once([Crowd.create!], meeting: { bank: 3 })[:bank]).to be_between(3, 4)
  end
end
