# frozen_string_literal: true

# How many handlers run at once where a setting limits them.
RSpec.describe "Limits" do
  before { Crowd::BESIDE.clear }

  def most_at_once(task, **sections)
    with_worker(threads: 5, **sections) { expect(task.wait(timeout: 60).state).to eq "complete" }
    Array.new(Crowd::BESIDE.size) { Crowd::BESIDE.pop }.group_by(&:first).transform_values { |seen| seen.map(&:last).max }
  end

  it "lets as many steps of an external system run as its concurrency says, and gives the rest back for a while" do
    task = Crowd.create!
    limited = { systems: { bank: { concurrency: 2 } }, execution: { claim_ahead_wait: "20ms" } }
    expect(most_at_once(task, **limited)).to eq(bank: 2, other: 1)
    expect(task.results["call_0"]).to eq("at" => "https://bank.example")
    expect(task.steps.map(&:attempts)).to eq [1] * 5
  end

  it "lets as many steps of a task run as execution.parallel_steps_per_task says, and others beside them" do
    tasks = Array.new(2) { Crowd.create! }
    with_worker(threads: 5, execution: { parallel_steps_per_task: 1 }) { tasks.each { |task| task.wait(timeout: 60) } }
    tasks.each do |task|
      times = task.attempts.map { [_1.started_at, _1.finished_at] }.sort
      expect(times.each_cons(2).map { |one, other| one.last <= other.first }).to all be true
    end
    together = tasks.map { |task| task.attempts.map(&:started_at).min..task.attempts.map(&:finished_at).max }
    expect(together.first.cover?(together.last.begin) || together.last.cover?(together.first.begin)).to be true
  end

  it "sets none where there are no more threads than may run" do
    expect(most_at_once(Crowd.create!)[:bank]).to be_between(2, 4)
  end
end
