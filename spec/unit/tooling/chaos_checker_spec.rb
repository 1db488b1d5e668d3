# frozen_string_literal: true

require_relative "../../../bench/chaos/history"
require_relative "../../../bench/chaos/checker"

# Shows each rule of the checker a history that breaks it.
RSpec.describe "The fault campaign's checker" do
  def effect(at, kind, token, step, **others)
    Chaos::Effects::Line.new(at: at, kind: kind, token: token, task: 1, step: step, attempt: 1, pid: 7, **others)
  end

  def attempt(token, step, outcome) = Chaos::History::Attempt.new(task: 1, step: step, token: token, outcome: outcome)

  def event(name, step = nil) = Chaos::History::Event.new(event: "#{name} #{step}", name: name, task: 1, step: step)

  # One task of two steps; the first was lost once.
  let(:facts) do
    {
      tasks: [Chaos::History::Task.new(id: 1, state: "complete", number: 5)],
      steps: [Chaos::History::Step.new(task: 1, position: 0, name: "a", state: "complete", parents: [],
                                       result: { "value" => 6, "token" => 11, "task" => 1, "step" => "a" }),
              Chaos::History::Step.new(task: 1, position: 1, name: "b", state: "complete", parents: ["a"],
                                       result: { "value" => 12, "token" => 12, "task" => 1, "step" => "b" })],
      attempts: [attempt(10, "a", "lost"), attempt(11, "a", "completed"), attempt(12, "b", "completed")],
      effects: [effect(1, "start", 10, "a"), effect(2, "start", 11, "a"), effect(3, "end", 11, "a", value: 6),
                effect(4, "start", 12, "b"), effect(5, "end", 12, "b", value: 12)],
      delivered: [event("task.created"), event("step.retry_scheduled", "a"), event("step.completed", "a"),
                  event("step.completed", "b"), event("task.completed")],
      created: [1], confirmed: [1], rolled_back: [2]
    }
  end

  def anomalies(**changed) = Chaos::Checker.new(Chaos::History.new(**facts, **changed)).anomalies

  it "accepts a correct history and counts the repetition" do
    expect(anomalies).to eq({})
    expect(Chaos::Checker.new(Chaos::History.new(**facts)).duplicates).to eq 1
  end

  it "finds lost tasks and tasks without their companion rows" do
    expect(anomalies(confirmed: [1, 3])[:lost_tasks]).to eq ["task 3 was committed and is missing"]
    expect(anomalies(created: [1, 3])[:lost_tasks]).to eq ["task 3 is missing, but its companion row exists"]
    expect(anomalies(created: [])[:lost_tasks]).to eq ["task 1 exists, but its companion row is missing"]
  end

  it "finds a rolled-back task that exists or ran" do
    expect(anomalies(rolled_back: [1])[:ghosts])
      .to eq ["task 1 was rolled back but exists", "task 1 was rolled back, but a handler ran"]
  end

  it "finds a task that never ended" do
    facts[:tasks].first.state = "pending"
    expect(anomalies[:stuck_tasks]).to eq ["task 1 never ended"]
  end

  it "finds a result that is missing or differs" do
    facts[:steps].last.result = { "value" => 12, "token" => 99, "task" => 1, "step" => "b" }
    expect(anomalies[:lost_results]).to match [/token 12.*was accepted, but the step has another result/]
    facts[:steps].last.result = nil
    expect(anomalies[:lost_results]).to match [/another result: nil/]
  end

  it "finds a vanished outcome and one recorded as a failure" do
    gone = facts[:attempts].reject { |attempt| attempt.token == 12 }
    expect(anomalies(attempts: gone))
      .to include(lost_results: [/token 12.*has no record/], unexplained_duplicates: [/token 12.*started/])
    expect(anomalies(attempts: [*gone, attempt(12, "b", "failed")])[:lost_results])
      .to match [/token 12.*is recorded as failed/]
  end

  it "finds a result that contradicts the parents' results" do
    facts[:steps].last.result["value"] = 13
    expect(anomalies[:wrong_results]).to eq ["step b of task 1 is 13 instead of 12"]
  end

  it "finds an accepted outcome without claim or handler" do
    expect(anomalies(attempts: [*facts[:attempts], attempt(10, "a", "completed")])).to include(
      accepted_twice: ["token 10 ended lost and completed",
                       "token 10 is recorded as completed, but its handler never ended"]
    )
  end

  it "finds two successes and an unexplained repetition" do
    twice = { attempts: [*facts[:attempts], attempt(13, "b", "completed")],
              effects: [*facts[:effects], effect(6, "start", 13, "b"), effect(7, "end", 13, "b", value: 12)] }
    expect(anomalies(**twice))
      .to include(two_successes: ["step b of task 1 succeeded 2 times"],
                  unexplained_duplicates: [/token 12.*has the outcome completed.*token 13.*followed it/])
  end

  it "finds events that are doubled, lost, made up or early" do
    expect(anomalies(delivered: [*facts[:delivered], event("task.completed")])[:events_delivered_twice])
      .to eq ["event task.completed  (task.completed of task 1) was delivered 2 times"]
    delivered = facts[:delivered]
    expect(anomalies(delivered: delivered.reject { _1.name == "step.retry_scheduled" })[:events_lost_or_made_up])
      .to eq ["step a of task 1 failed 1 times, with 0 events"]
    expect(anomalies(delivered: [*delivered, event("step.failed", "b")])[:events_lost_or_made_up])
      .to eq ["step b of task 1 failed 0 times, with 1 events"]
    [delivered.drop(1), delivered[0..-2], delivered.rotate].each do |wrong|
      expect(anomalies(delivered: wrong)[:events_lost_or_made_up])
        .to match [/\Atask 1 is complete, and its events were /]
    end
    expect(anomalies(delivered: delivered.values_at(0, 1, 3, 2, 4))[:events_out_of_order])
      .to eq ["step b of task 1 had its event before its parent a"]
  end

  # A fence by token alone accepts this after a fail-over: lost claim 12 of another task ends claim 12 of this one.
  it "finds a step with the result of another task's handler" do
    facts[:steps].last.result = { "value" => 12, "token" => 12, "task" => 3, "step" => "b" }
    expect(anomalies[:foreign_results]).to eq ["step b of task 1 has the result of step b of task 3"]
    facts[:steps].last.result = { "value" => 12, "token" => 12, "task" => 1, "step" => "a" }
    expect(anomalies[:foreign_results]).to eq ["step b of task 1 has the result of step a of task 1"]
  end

  it "finds an attempt with the token of another task's claim" do
    other = effect(4, "start", 12, "b").tap { |line| line.task = 3 }
    ended = other.dup.tap { |line| line.kind = "end" }
    recorded = attempt(12, "b", "completed").tap { |attempt| attempt.task = 3 }
    wrong = anomalies(effects: [*facts[:effects], other, ended], attempts: [*facts[:attempts][0, 2], recorded])
    expect(wrong)
      .to include(lost_results: [/token 12.*step b of task 1.*has no record/,
                                 /token 12.*step b of task 3.*another result: nil/])
  end

  describe "after a fail-over" do
    # Task 3 was created and begun, and both steps of task 1 had run before: none of it had reached the standby.
    let(:lost) do
      [effect(0.1, "start", 8, "a"), effect(0.2, "end", 8, "a", value: 6), effect(0.3, "start", 9, "b"),
       effect(0.4, "end", 9, "b", value: 12),
       effect(0.5, "start", 9, "a").tap { |line| line.task = 3 }]
    end
    let(:after_it) do
      { effects: [*lost, *facts[:effects]], confirmed: [1, 3],
        gone: Chaos::Remains.new(Set[*lost.map(&:execution)], Set[3]) }
    end

    it "excuses only what the standby had not received" do
      expect(anomalies(**after_it)).to eq({})
      expect(anomalies(**after_it, gone: Chaos::Remains::NONE)).to include(
        lost_tasks: ["task 3 was committed and is missing"], lost_results: [/token 8/, /token 9/],
        unexplained_duplicates: include(/token 8.*outcome unknown/,
                                        /token 9.*of step a of task 3.*started, but has no record/)
      )
    end

    it "finds an outcome recorded although its claim was lost" do
      expect(anomalies(**after_it, attempts: [*facts[:attempts], attempt(9, "b", "failed")])[:revived])
        .to eq ["token 9 of step b of task 1 was lost in a fail-over, but ended failed"]
    end

    it "finds a lost child that began before its parent ended" do
      lost[1].at = 0.35
      expect(anomalies(**after_it)[:children_before_parents])
        .to match [/token 9.*of step b.*started before its parent a had ended/]
    end
  end

  describe "when the clock has jumped" do
    let(:disturbances) { Chaos::Disturbances.new }

    before { disturbances.note(:jump, from: 1.4, to: 1.5) }

    it "finds a lost attempt of a living worker" do
      expect(anomalies(disturbances: disturbances)[:lost_by_a_clock_jump])
        .to match [/token 10.*was lost when the clock jumped, but its process was alive/]
    end

    it "accepts a lost attempt of a worker with another fault" do
      disturbances.note(:kill_worker, from: 1.2, pids: [8])
      expect(anomalies(disturbances: disturbances)).to include(:lost_by_a_clock_jump)
      disturbances.note(:pause_worker, from: 0.5, to: nil, pids: [7])
      expect(anomalies(disturbances: disturbances)).to eq({})
    end

    it "blames no later jump and excuses by no later fault" do
      later = Chaos::Disturbances.new
      later.note(:jump, from: 2.5)
      expect(anomalies(disturbances: later)).to eq({})
      disturbances.note(:restart, from: 2.5, to: 2.6)
      expect(anomalies(disturbances: disturbances)).to include(:lost_by_a_clock_jump)
    end
  end

  describe "when a host was isolated" do
    let(:disturbances) { Chaos::Disturbances.new }

    def cut(from:, to:) = disturbances.note(:cut_off, from: from, to: to, pids: [7])

    it "finds an outcome that was accepted afterwards" do
      cut(from: 4.5, to: 16)
      expect(anomalies(disturbances: disturbances)).to match(
        accepted_from_isolated_hosts: [/token 12.*was accepted, but its host was isolated when it ended/]
      )
    end

    it "excuses what was finished before, in a shorter time, or during another fault" do
      cut(from: 4.95, to: 16)
      cut(from: 4.5, to: 14)
      expect(anomalies(disturbances: disturbances)).to eq({})
      cut(from: 4.4, to: 16)
      disturbances.note(:restart, from: 6, to: 7)
      expect(anomalies(disturbances: disturbances)).to eq({})
    end
  end

  it "finds a child that began before its parent ended" do
    facts[:effects][3].at = 2.5
    expect(anomalies[:children_before_parents]).to match [/token 12.*started before its parent a had ended/]
  end

  it "reports audit findings and leftover rows" do
    expect(anomalies(findings: ["task 1: broken"], leftovers: { "processes" => 1, "ready_steps" => 0 })).to eq(
      broken_invariants: ["task 1: broken"], leftovers: ["1 rows are left in processes"]
    )
  end
end
