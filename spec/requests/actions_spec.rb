# frozen_string_literal: true

# The table of operator's actions, and what follows it.
RSpec.describe TaskerCore::Operations::Action do
  let(:task) { Line.create!(n: 2) }

  def signature(action) = [("result" if action.result?), "reason:", "by:"].compact.join(", ")

  it "has a model method and a line in the manual for each" do
    manual = File.read("#{root}/docs/operations.md")
    described_class::ALL.each do |action|
      model = { task: TaskerCore::Task, step: TaskerCore::WorkflowStep }.fetch(action.subject)
      parameters = model.instance_method(:"#{action.name}!").parameters
      expect(parameters).to eq [(%i[req result] if action.result?), %i[keyreq reason], %i[keyreq by]].compact
      expect(manual)
        .to include "| `#{action.subject}.#{action.name}!(#{signature(action)})` | `tasker #{action.name} TASK"
    end
  end

  describe "offered?" do
    def claimed(task)
      entry = { name: "n", hostname: "h", pid: 1, queues: ["*"], heartbeat_timeout_ms: 60_000, lease_grace_ms: 30_000 }
      connection = TaskerCore::ApplicationRecord.connection
      process = TaskerCore::Postgres::Functions.call(connection, :register_process, JSON.generate(entry))
      TaskerCore::Postgres::Functions.call(connection, :claim_steps, process, ["*"], 100, nil)
      task
    end

    # A task for each state of a task or a step.
    def tasks
      [*ended_or_half_done, claimed(Line.create!(n: 1)),
       Line.create!(n: 1), Line.set(wait_until: 1.hour.from_now).create!(n: 1),
       Line.create!(n: 1).cancel!(reason: "why", by: "ada"),
       Line.create!(n: 1).tap { |line| line.step("a").resolve!(reason: "why", by: "ada") },
       Line.create!(n: 1).tap { |line| line.steps.each { |step| step.resolve!(reason: "why", by: "ada") } }]
    end

    def ended_or_half_done
      failed, resolved, half_done = [Repairable, Repairable, Three].map(&:create!)
      with_worker do
        eventually { [failed, resolved].all?(&:ended?) && half_done.steps.map(&:state) == %w[complete error waiting] }
      end
      [failed, resolved.resolve!(reason: "why", by: "ada"), half_done]
    end

    def accepted?(action, record)
      TaskerCore::ApplicationRecord.transaction(requires_new: true) do
        action.perform(record, reason: "why", by: "ada", result: {})
        raise ActiveRecord::Rollback
      end
      true
    rescue TaskerCore::TransitionError
      false
    ensure
      record.reload
    end

    it "is true for each state that the function accepts" do
      all = tasks
      seen = all.flat_map { |one| [[:task, one.state], *one.steps.map { |step| [:step, step.state] }] }.uniq
      states = { task: TaskerCore::Task::STATES, step: ["pending", *TaskerCore::Graph::MARKS.keys] }
      expect(seen).to match_array(states.flat_map { |subject, names| names.map { |name| [subject, name] } })
      all.each do |one|
        records = one.state == "resolved_manually" ? [one] : [one, *one.steps]
        records.each do |record|
          described_class.of(record.is_a?(TaskerCore::Task) ? :task : :step).each do |action|
            offered = action.offered?(record.state, one.steps.map(&:state))
            what = "#{action.name} of a #{action.subject} that is #{record.state}"
            expect(accepted?(action, record)).to eq(offered), what
          end
        end
      end
    end
  end

  describe "with another row" do
    around do |example|
      example.run
    ensure
      Rails.application.reload_routes!
    end

    before do
      row = { name: :nudge, subject: :step, label: "Nudge it", past: "nudged the step", states: %w[ready],
              effect: "Nudge a step", result: true }
      stub_const("#{described_class}::ALL", [*described_class::ALL, described_class.new(**row)])
      nudges = @nudges = []
      TaskerCore::WorkflowStep.define_method(:nudge!) do |result, reason:, by:|
        nudges << [name, result, reason, by]
        self
      end
      Rails.application.reload_routes!
    end

    after { TaskerCore::WorkflowStep.remove_method(:nudge!) }

    it "extends the command line" do
      out = StringIO.new
      arguments = ["nudge", task.id.to_s, "a", "--result", '{"n": 1}', "--reason", "slow", "--by", "ada"]
      status = Dir.chdir("#{root}/spec/dummy") { TaskerCore::CLI.new(out: out, err: out).run(arguments) }
      expect([status, out.string, @nudges]).to match [0, /\Aa: nudged the step\n/, [["a", { "n" => 1 }, "slow", "ada"]]]
      TaskerCore::CLI.new(out: out).run(["help"])
      expect(out.string).to match(/^  nudge +nudge a step$/)
    end

    it "extends the API and its description" do
      path = "/tasks/{task}/steps/{step}/nudge"
      description = api(:get, "/openapi.json")["paths"].fetch(path)["post"]
      expect(description).to include("operationId" => "nudgeStep", "tags" => ["steps"], "summary" => "Nudge a step",
                                     "requestBody" => include("content" => be_a(Hash)))
      allow(Contract).to receive(:current).and_return(Contract.new)
      body = { reason: "slow", result: { n: 1 } }
      expect(api(:post, "/tasks/#{task.id}/steps/a/nudge", body)).to include("name" => "a")
      expect(@nudges).to eq [["a", { "n" => 1 }, "slow", "api"]]
    end

    it "extends the dashboard" do
      get "/tasker/tasks/#{task.uuid}/steps/a"
      link = Nokogiri::HTML5(response.body).css(".button").find { |button| button.text == "Nudge it" }
      get link["href"]
      form = Nokogiri::HTML5(response.body)
      expect(form.at("main").text).to include "Nudge a step."
      token = form.at("input[name=authenticity_token]")["value"]
      post link["href"], params: { authenticity_token: token, reason: "slow", result: '{"n": 1}' }
      expect([response.status, @nudges]).to eq [303, [["a", { "n" => 1 }, "slow", "dashboard"]]]
    end
  end
end
