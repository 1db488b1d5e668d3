# frozen_string_literal: true

# The scenarios with handlers in Ruby, on a worker of the real extension. Those of Rust alone are in
# ext/orchestrator/tests/scenarios_test.rs.
RSpec.describe "Scenarios" do
  def ended(task) = task.wait(timeout: 30)

  describe "S1: four squarings in a line" do
    it "give the sixteenth power" do
      task = Line.create!(n: 6)
      expect([task.state, task.execution_status]).to eq %w[pending has_ready_steps]
      with_worker { ended(task) }
      expect(task.results.transform_values { _1["n"] }).to eq("a" => 36, "b" => 1296, "c" => 1_679_616, "d" => 2_821_109_907_456)
      expect([task.state, task.execution_status]).to eq %w[complete all_complete]
      expect(outline(task)).to all(match([String, "complete", 1]))
    end
  end

  describe "S2: a diamond" do
    it "joins both branches" do
      task = Diamond.create!(n: 6)
      with_worker { ended(task) }
      expect(task.results["d"]["n"]).to eq 6**16
    end

    it "runs its branches at the same time, on threads of one process" do
      task = Meeting.create!
      with_worker(threads: 2) { ended(task) }
      expect(task.results["both"]).to eq("met" => { "left" => "right", "right" => "left" })
      left, right, join = task.attempts.sort_by(&:position)
      expect([left.started_at, right.started_at].max).to be < [left.finished_at, right.finished_at].min
      expect(join.started_at).to be >= [left.finished_at, right.finished_at].max
    end
  end

  describe "S3 and S4: a tree and a mixed graph" do
    it "keep big integers exact" do
      tasks = [Tree.create!(n: 6), Mixed.create!(n: 6)]
      with_worker { tasks.each { ended(_1) } }
      expect(tasks.map { _1.results.values.map { |result| result["n"] }.max }).to eq [6**64, 6**64]
    end
  end

  describe "S5: a step that fails twice of three times" do
    it "is retried when its policy says, and its dependents wait" do
      task = Flaky.create!(failures: 2)
      with_worker do
        eventually { task.execution_status == "waiting_for_retry" }
        expect(sweep_after(59)).to eq 0
        expect(sweep_after(61)).to eq 1
        eventually { outline(task)[1] == ["trial", "waiting", 2] }
        expect(outline(task)[2]).to eq ["after", "pending", 0]
        expect(sweep_after(119)).to eq 0
        expect(sweep_after(121)).to eq 1
        ended(task)
      end
      expect(outline(task)).to eq [["before", "complete", 1], ["trial", "complete", 3], ["after", "complete", 1]]
      expect(task.results["after"]).to eq("seen" => 3, "far" => {})
    end
  end

  describe "S6: a step that fails three times of three" do
    it "blocks its task" do
      task = Flaky.create!(failures: 3)
      with_worker do
        [[1, 61], [2, 121]].each do |attempts, seconds|
          eventually { outline(task)[1] == ["trial", "waiting", attempts] }
          expect(sweep_after(seconds)).to eq 1
        end
        ended(task)
      end
      expect([task.state, task.execution_status]).to eq %w[error blocked_by_failures]
      expect(outline(task)).to eq [["before", "complete", 1], ["trial", "error", 3], ["after", "pending", 0]]
      expect(task.execution_context).to include("total_steps" => 3, "completed_steps" => 1, "failed_steps" => 1)
    end
  end

  describe "S7: a diamond whose branches fail" do
    { %w[b c] => 1, %w[b] => 2 }.each do |failing, completed|
      it "never runs the join when #{failing.join(' and ')} fail, and completes the rest" do
        task = Forked.create!(failing: failing)
        with_worker { ended(task) }
        expect([task.state, task.execution_status]).to eq %w[error blocked_by_failures]
        expect(task.steps.count { |step| step.state == "complete" }).to eq completed
        expect(outline(task).last).to eq ["d", "pending", 0]
      end
    end
  end

  describe "S8: a permanent error" do
    it "ends the step after one attempt and keeps its code" do
      task = Flaky.create!(failures: 1, kind: "permanent")
      with_worker { ended(task) }
      expect(task.state).to eq "error"
      trial = task.steps[1]
      expect([trial.state, trial.attempts]).to eq ["error", 1]
      expect(trial.error).to include("class" => "TaskerCore::PermanentError", "message" => "declined", "code" => "card_declined")
      expect(trial.error["backtrace"].first).to include "flaky.rb"
    end
  end

  describe "S11: a delay that a server asks for" do
    it "wins over the policy" do
      task = Flaky.create!(failures: 1, kind: "later", after: 30)
      with_worker do
        eventually { task.execution_status == "waiting_for_retry" }
        expect(sweep_after(29)).to eq 0
        expect(sweep_after(31)).to eq 1
        ended(task)
      end
      expect(task.results["trial"]).to eq("attempt" => 2)
    end
  end

  describe "S14: kill -9 in the middle of a step" do
    it "records the attempt as lost and runs the step again in another process" do
      Dir.mktmpdir do |directory|
        task = Slow.create!(directory: directory)
        with_worker_processes(processes: 1) do
          first = eventually { Dir["#{directory}/started-1-*"].first }
          Process.kill("KILL", first[/\d+\z/].to_i)
          second = eventually { Dir["#{directory}/started-2-*"].first }
          expect(second[/\d+\z/]).not_to eq first[/\d+\z/]
          File.write("#{directory}/go", "")
          ended(task)
        end
        expect(task.attempts.map { [_1.attempt, _1.outcome] }).to eq [[1, "lost"], [2, "completed"]]
        expect(task.results["only"]["attempt"]).to eq 2
      end
    end
  end

  describe "S15: a worker that was paused past its lease" do
    it "finishes nothing when it is resumed" do
      Dir.mktmpdir do |directory|
        task = Slow.create!(directory: directory)
        with_worker_processes(processes: 1, threads: 1) do
          paused = eventually { Dir["#{directory}/started-1-*"].first }[/\d+\z/].to_i
          Process.kill("STOP", paused)
          with_worker do
            eventually { Dir["#{directory}/started-2-*"].first }
            File.write("#{directory}/go", "")
            ended(task)
          end
          Process.kill("CONT", paused)
          eventually { TaskerCore::ApplicationRecord.connection.select_value("select count(*) from tasker_processes").positive? }
        end
        expect(task.attempts.map { [_1.attempt, _1.outcome] }).to eq [[1, "lost"], [2, "completed"]]
        expect(task.results["only"]).to eq("attempt" => 2, "pid" => Process.pid)
      end
    end
  end

  describe "S16: two worker processes and a thousand diamonds" do
    it "give every step exactly one successful attempt, and both do work" do
      Diamond.create_all!(Array.new(1000) { { n: 2 } })
      with_worker_processes(processes: 2) do
        eventually(within: 60) { TaskerCore::Task.where(ended_at: nil).none? }
      end
      attempts = TaskerCore::StepAttempt.all
      expect(attempts.group(:outcome).count).to eq("completed" => 4000)
      expect(attempts.distinct.count("(task_id, position)")).to eq 4000
      expect(attempts.distinct.count(:process_id)).to eq 2
      expect(TaskerCore::Task.distinct.pluck(:state)).to eq ["complete"]
    end
  end

  describe "S20: one to a thousand to one" do
    it "runs the join once" do
      wide = Class.new(TaskerCore::Workflow) do
        workflow_name "wide"
        step :root, handler: "Noted"
        1000.times { |number| step "branch_#{number}", depends_on: :root, handler: "Noted" }
        step :join, depends_on: Array.new(1000) { |number| "branch_#{number}" }, handler: "Noted"
      end
      stub_const("Noted", Class.new(TaskerCore::StepHandler) { def call(context) = { after: context.results.to_h.size } })
      task = wide.create!
      with_worker(threads: 5) { ended(task) }
      expect(task.results["join"]).to eq("after" => 1001)
      expect(task.attempts.size).to eq 1002
    end
  end

  describe "S22: creation inside a transaction" do
    it "leaves no task when the transaction rolls back" do
      TaskerCore::ApplicationRecord.transaction do
        Diamond.create!(n: 2)
        raise ActiveRecord::Rollback
      end
      expect(TaskerCore::Task.count).to eq 0
    end

    it "starts the task only after the commit" do
      with_worker do
        task = TaskerCore::ApplicationRecord.transaction do
          inside = Diamond.create!(n: 2)
          # Another task, created on another connection, goes the whole way meanwhile.
          Thread.new { ended(Line.create!(n: 2)) }.join
          expect(inside.attempts).to be_empty
          inside
        end
        expect(ended(task).state).to eq "complete"
      end
    end
  end

  describe "S10: boundaries" do
    it "refuses no attempt at all when the workflow is compiled" do
      none = Class.new(TaskerCore::Workflow) do
        workflow_name "none"
        step :only, handler: "Square", retry: { max_attempts: 0 }
      end
      expect { none.create! }.to raise_error(TaskerCore::WorkflowError, /steps\[0\].retry.max_attempts: 0 \(integer\) must be an integer from 1/)
      expect(TaskerCore::WorkflowVersion.where(name: "none")).to be_empty
    end
  end

  describe "whatever a handler does" do
    { "hang" => /the time limit of 0.2 s has passed/, "exit" => /exit/, "text" => /answered "not a hash" \(String\)/,
      "nan" => /cannot be written as JSON/, "null byte" => /null character/, "large" => /limits.payload_bytes is 1048576/,
      "binary" => /cannot be written as JSON/, "syntax" => /not yet written/,
      "own ancestor" => /nowhere is not before step only/ }.each do |kind, told|
      it "ends its step with an error that says so (#{kind})" do
        task = Impatient.create!(kind: kind)
        with_worker { ended(task) }
        expect(task.steps.first).to have_attributes(state: "error", attempts: 1)
        expect(task.steps.first.error["message"]).to match told
      end
    end

    it "stores what it answers, integers of any size included" do
      task = Impatient.create!
      with_worker { ended(task) }
      expect(task.results["only"]).to eq("time" => "2026-01-02T00:00:00.000Z", "symbol" => "word", "big" => 2**200,
                                         "nested" => { "1" => [1.5, nil, true] })
    end
  end

  it "carries an input and results that are as deep as they may be, and refuses a deeper one" do
    deep = ->(depth) { (depth - 1).times.inject({ n: 1 }) { |inner, _| { in: inner } } }
    stub_const("Echo", Class.new(TaskerCore::StepHandler) { def call(context) = context.input })
    echo = Class.new(TaskerCore::Workflow) do
      workflow_name "echo"
      step :first, handler: "Echo"
      step :second, depends_on: :first, handler: "Echo"
    end
    task = echo.create!(**deep.call(100))
    with_worker { ended(task) }
    expect(task.state).to eq "complete"
    expect { echo.create!(**deep.call(101)) }.to raise_error(TaskerCore::InputError, /nested more than 100 deep/)
  end

  it "runs a workflow that a YAML file declares" do
    task = TaskerCore.workflow("yaml_diamond", namespace: "files").create!(n: 6)
    with_worker { ended(task) }
    expect(task.results["d"]["n"]).to eq 6**16
  end
end
