# frozen_string_literal: true

RSpec.describe TaskerCore::Workflows::Registry do
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }

  let(:workflows) { described_class.new }

  def file(name, text) = "#{@directory}/#{name}".tap { |path| File.write(path, text) }

  def flow(name, handler: "Square") = "name: #{name}\nsteps: [{ name: only, handler: #{handler} }]\n"

  it "rejects two files with one workflow and names both" do
    file("a.yaml", flow("trial"))
    file("b.yml", flow("trial"))
    expect { workflows.load_directory(@directory) }
      .to raise_error(TaskerCore::WorkflowError,
                      %r{two workflows default.trial: .*/a.yaml and .*/b.yml: give one of them another name})
  end

  it "rejects two classes, or class and file, with one workflow" do
    stub_const("TrialFlow", Class.new(TaskerCore::Workflow) { workflow_name("trial") and step(:only, handler: Square) })
    workflows.declare("TrialFlow")
    expect { workflows.verify! }.not_to raise_error
    workflows.load_file(file("a.yaml", flow("trial")))
    expect { workflows.verify! }.to raise_error(TaskerCore::WorkflowError, %r{the class TrialFlow and .*/a.yaml})

    stub_const("OtherFlow", Class.new(TaskerCore::Workflow) { workflow_name("trial") and step(:only, handler: Square) })
    others = described_class.new
    %w[TrialFlow OtherFlow].each { |name| others.declare(name) }
    expect { others.verify! }.to raise_error(TaskerCore::WorkflowError, /the class TrialFlow and the class OtherFlow/)
  end

  it "compiles declared classes and skips those without steps" do
    stub_const("BaseFlow", Class.new(TaskerCore::Workflow))
    workflows.declare("BaseFlow")
    expect { workflows.verify! }.not_to raise_error
    stub_const("BadFlow", Class.new(TaskerCore::Workflow) { step(:only, handler: Square, timout: 3) })
    workflows.declare("BadFlow")
    expect { workflows.verify! }.to raise_error(TaskerCore::WorkflowError, /did you mean `timeout`/)
  end

  it "rereads a directory and forgets deleted files" do
    first = file("a.yaml", flow("one"))
    second = file("b.yaml", flow("two"))
    workflows.load_directory(@directory)
    File.write(first, flow("renamed"))
    File.delete(second)
    workflows.load_directory(@directory)
    expect(workflows.map(&:workflow_name)).to eq ["renamed"]
    expect(workflows.load_file(first)).to be workflows.fetch("renamed")
  end

  it "warns about an undefined handler and suggests a name" do
    stub_const("ChargeCard", Class.new(TaskerCore::StepHandler) { def call(_context) = {} })
    workflows.load_file(file("a.yaml", flow("trial", handler: "ChargeCrd")))
    warned = []
    ActiveSupport::Notifications.subscribed(->(*, payload) { warned << payload }, "undefined_handler.tasker_core") do
      workflows.verify!
    end
    expect(warned).to eq [{ workflow: "trial", step: "only", handler: "ChargeCrd", nearest: "ChargeCard" }]
  end
end
