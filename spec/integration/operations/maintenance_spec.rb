# frozen_string_literal: true

# Audit and retention, run by workers and by operators.
RSpec.describe "Maintenance" do
  def connection = ActiveRecord::Base.connection

  def finished_tasks(count)
    tasks = Line.create_all!(Array.new(count) { { n: 2 } })
    with_worker { tasks.each { |task| task.wait(timeout: 120) } }
    tasks
  end

  # Moves a task's end, creation and uuid into the past.
  def age(task, days)
    connection.execute(<<~SQL)
      update tasker_tasks
      set ended_at = ended_at - interval '#{days} days', created_at = created_at - interval '#{days} days',
        uuid = tasker_core_v1.uuid_v7(created_at - interval '#{days} days')
      where id = #{task.id}
    SQL
  end

  # Makes a function fail under a condition, as it would on a damaged page.
  def with_failing(function, condition)
    arguments = connection.select_value("select pg_get_function_arguments('tasker_core_v1.#{function}'::regproc)")
    connection.execute(<<~SQL)
      alter function tasker_core_v1.#{function} rename to #{function}_before;
      create function tasker_core_v1.#{function}(#{arguments}) returns json language plpgsql as $$
      begin
        if #{condition} then raise exception 'missing chunk' using errcode = 'XX001'; end if;
        return tasker_core_v1.#{function}_before(#{arguments.scan(/p_\w+/).join(', ')});
      end $$;
    SQL
    yield
  ensure
    connection.execute("drop function tasker_core_v1.#{function}; alter function tasker_core_v1.#{function}_before " \
                       "rename to #{function}")
  end

  def tasker(*arguments)
    TaskerCore::CLI.new(out: out, err: out).run([*arguments, "--require", "spec/dummy/config/environment.rb"])
  end

  let(:out) { StringIO.new }

  describe "an audit" do
    it "finds and corrects a wrong counter of tasks" do
      finished_tasks(2)
      connection.execute("update tasker_counts set completed = completed + 1 where completed is not null")
      expect(tasker("audit")).to eq 1
      expect(out.string).to match(%r{\d tasks of default/line are counted as complete, but 2 exist \(counters\)})
      expect(tasker("audit", "--repair")).to eq 0
      expect(tasker("audit")).to eq 0
      with_failing(:recount_tasks, "true") { expect(tasker("audit")).to eq 1 }
      expect(out.string).to include "the counters of tasks cannot be checked: missing chunk (unreadable)"
    end

    it "finds nothing after normal work" do
      finished_tasks(3)
      expect(TaskerCore::Operations::Audit.new(limit: 2).to_a).to eq []
      expect(tasker("audit")).to eq 0
      expect(out.string).to eq "tasks that break an invariant: 0\n"
    end

    it "explains a broken task and repairs it on request only" do
      broken = Line.create!(n: 6)
      sound = Line.create!(n: 6)
      connection.execute("delete from tasker_ready_steps where task_id = #{broken.id}")
      expect(tasker("audit")).to eq 1
      expect(out.string).to include("task #{broken.id}: step a can run, but nothing will start it (I4)",
                                    "tasks that break an invariant: 1\n")
      expect(out.string).not_to include "task #{sound.id}:"
      expect(tasker("audit", "--repair")).to eq 0
      expect(out.string).to include "tasks that break an invariant: 1; after the repair: 0\n"
      with_worker { broken.wait(timeout: 120) }
      expect(broken.state).to eq "complete"
      actions = connection.select_rows("select action, reason from tasker_task_events where task_id = #{broken.id}")
      expect(actions).to eq [["repair", "found by an audit"]]
    end

    it "names a task that it cannot check, and checks the others" do
      tasks = Array.new(5) { Line.create!(n: 6) }
      connection.execute("delete from tasker_ready_steps where task_id in (#{tasks[1].id}, #{tasks[4].id})")
      with_failing(:audit,
                   "#{tasks[2].id} in (select id from tasker_tasks where id > p_after order by id limit p_limit)") do
        found = TaskerCore::Operations::Audit.new(limit: 4).to_a
        expect(found.map(&:task_id).uniq).to eq tasks.values_at(1, 2, 4).map(&:id)
        expect(found.select { |finding| finding.rule == "unreadable" }.map(&:task_id)).to eq [tasks[2].id]
        expect(tasker("audit")).to eq 1
        expect(out.string).to include("task #{tasks[2].id}: the task cannot be checked: missing chunk (unreadable)",
                                      "tasks that break an invariant: 3\n")
        expect { connection.transaction { TaskerCore::Operations::Audit.new.to_a } }
          .to raise_error(ActiveRecord::StatementInvalid, /missing chunk/)
      end
    end

    it "fails when it cannot read data that belongs to no task" do
      Line.create!(n: 6)
      with_failing(:audit, "true") do
        expect { TaskerCore::Operations::Audit.new.to_a }.to raise_error(TaskerCore::DatabaseError, "missing chunk")
      end
    end

    it "repairs the other tasks when one repair fails" do
      tasks = Array.new(3) { Line.create!(n: 6) }
      connection.execute("truncate tasker_ready_steps")
      with_failing(:repair_task, "p_task = #{tasks[1].id}") { expect(tasker("audit", "--repair")).to eq 1 }
      expect(out.string).to include("not repaired: task #{tasks[1].id}: the repair failed: missing chunk (unreadable)",
                                    "tasks that break an invariant: 3; after the repair: 1\n")
      expect(TaskerCore::Operations::Audit.new.map(&:task_id).uniq).to eq [tasks[1].id]
    end

    it "reports what it cannot repair" do
      task = finished_tasks(1).first
      connection.execute("insert into tasker_step_attempts select task_id, position, attempt, token " \
                         "+ 1000, process_id, " \
                         "ready_at, claimed_at, started_at, finished_at, outcome from " \
                         "tasker_step_attempts where position = 0")
      expect(tasker("audit", "--repair", "--json")).to eq 1
      finding = { "task_id" => task.id, "position" => 0, "rule" => "I2",
                  "explanation" => "step a has 2 successful attempts" }
      expect(JSON.parse(out.string)).to eq("findings" => [finding], "repaired" => true, "left" => [finding])
    end

    it "runs in every worker and counts broken tasks" do
      connection.execute("delete from tasker_ready_steps where task_id = #{Line.create!(n: 6).id}")
      with_worker(maintenance: { audit_interval: "1s" }) { |worker| eventually { worker.health[:broken] == 1 } }
    end
  end

  describe "retention" do
    it "removes expired tasks and previews them on request" do
      old, young = finished_tasks(2)
      age(old, 31)
      expect(tasker("prune", "--dry-run", "--json")).to eq 0
      counted = JSON.parse(out.string)
      expect(counted).to include("dry_run" => true,
                                 "removed" => include("tasks" => 1, "task_inputs" => 1, "workflow_steps" => 4,
                                                      "step_attempts" => 4))
      expect(TaskerCore::Task.count).to eq 2
      out.truncate(0)
      expect(tasker("prune")).to eq 0
      expect(out.string).to match(/removed:\n  tasks +1$/)
      expect(TaskerCore::Task.pluck(:id)).to eq [young.id]
      expect([TaskerCore::WorkflowStep, TaskerCore::StepAttempt, TaskerCore::TaskInput].map(&:count)).to eq [4, 4, 1]
    end

    it "names a task that it cannot remove, and removes the others" do
      tasks = finished_tasks(4).each { |task| age(task, 31) }
      connection.execute("update tasker_tasks set uuid = tasker_core_v1.uuid_v7(created_at + id * interval '1 ms')")
      before = "(select id from tasker_tasks where uuid > coalesce(p_after, '#{'0' * 8}-0000-0000-0000-#{'0' * 12}') " \
               "order by uuid limit p_limit)"
      with_failing(:prune, "#{tasks[2].id} in #{before}") { expect(tasker("prune")).to eq 1 }
      expect(out.string).to match(/^  tasks +3$/)
      expect(out.string).to match(/^task #{tasks[2].id} \(#{tasks[2].reload.uuid}\) is skipped: missing chunk$/)
      expect(TaskerCore::Task.ids).to eq [tasks[2].id]
      # After the last task an error belongs to no task.
      with_failing(:prune, "true") do
        expect { TaskerCore::Operations::Retention.new.run }.to raise_error(TaskerCore::DatabaseError, "missing chunk")
      end
    end

    it "keeps tasks for the duration that an operator gives" do
      age(finished_tasks(1).first, 3)
      expect(tasker("prune", "--keep", "4d")).to eq 0
      expect(TaskerCore::Task.count).to eq 1
      expect(tasker("prune", "--keep", "2d")).to eq 0
      expect(TaskerCore::Task.count).to eq 0
      expect(tasker("prune", "--keep", "soon")).to eq 2
      expect(out.string).to include 'retention.keep: "soon" (string) must be a duration'
    end

    it "runs in every worker unless it is disabled" do
      age(finished_tasks(1).first, 31)
      with_worker(retention: { enabled: false, interval: "1s" }, leases: { heartbeat_interval: "100ms" }) do
        lived = "select max(heartbeat_at - started_at) > interval '2 s' from tasker_processes"
        eventually { connection.select_value(lived) }
      end
      expect(TaskerCore::Task.count).to eq 1
      with_worker(retention: { interval: "1s" }) { |worker| eventually { worker.health[:pruned] == 1 } }
      expect(TaskerCore::Task.count).to eq 0
    end
  end
end
