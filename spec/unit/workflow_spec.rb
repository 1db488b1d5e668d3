# frozen_string_literal: true

RSpec.describe TaskerCore::Workflow do
  def workflow(&declarations)
    Class.new(described_class) do
      workflow_name "trial"
      class_eval(&declarations)
    end
  end

  it "compiles to the same version as the equivalent YAML file" do
    file = TaskerCore.workflow("yaml_diamond", namespace: "files")
    twin = workflow do
      workflow_name "yaml_diamond"
      namespace "files"
      version "1.0.0"
      description "The diamond of squares, declared in a file"
      input type: "object", required: [:n], properties: { n: { type: :integer } }
      step :a, handler: Square
      step :b, depends_on: :a, handler: Square, config: { parents: [:a] }
      step :c, depends_on: :a, handler: "Square", config: { parents: [:a] }
      step :d, depends_on: %i[b c], handler: Square, config: { parents: %i[b c] }, timeout: 30.seconds,
               retry: { max_attempts: 5, backoff: :exponential, base: 1.second, factor: 2, cap: 5.minutes, jitter: 0.1 }
    end
    expect(twin.compiled.digest).to eq file.compiled.digest
    levels = TaskerCore::Graph.of_workflow(twin).nodes.to_h { [_1.name, _1.level] }
    expect(levels).to eq("a" => 0, "b" => 1, "c" => 1, "d" => 2)
  end

  it "derives a version from its content when none is given" do
    expect(workflow { step :only, handler: Square }.version).to match(/\A0\.0\.0\+\h{12}\z/)
  end

  it "rejects a step without a handler and explains what to define" do
    expect { workflow { step :charge }.compiled }
      .to raise_error(TaskerCore::WorkflowError, /step charge of .*has no handler: define the method/)
  end

  it "rejects a queue name that the command line cannot pass" do
    ["high priority", "high,low", " ", "*"].each do |queue|
      expect { workflow { step :only, handler: Square, queue: queue }.compiled }
        .to raise_error(
          TaskerCore::WorkflowError,
          /steps\[0\].queue: #{Regexp.escape(queue.inspect)} \(string\) must be a name .* without spaces and commas/
        )
    end
  end

  it "includes declarations made after compilation" do
    late = workflow { step :only, handler: Square }
    late.compiled
    late.class_eval { namespace("late") and version("2") }
    expect([late.compiled.namespace, late.compiled.version]).to eq %w[late 2]
  end

  it "rejects an input declaration with unknown keys" do
    expect { workflow { input required: { n: :integer }, optionl: { m: :integer } } }
      .to raise_error(TaskerCore::WorkflowError,
                      /input of .*: unknown keyword: :optionl: expected required: and optional:/)
    expect { workflow { input required: { n: :integer }, optional: :m } }
      .to raise_error(TaskerCore::WorkflowError, /expected required: and optional:/)
    expect { workflow { step(:only, handler: Square) || input(requird: { n: :integer }) }.compiled }
      .to raise_error(TaskerCore::WorkflowError,
                      /input.requird: .* is not a JSON Schema keyword: did you mean `required`\?/)
    expect do
      workflow { step(:only, handler: Square) || input(required: { n: { type: :integer, minimun: 1 } }) }.compiled
    end.to raise_error(TaskerCore::WorkflowError, /input.properties.n.minimun: 1 .*did you mean `minimum`\?/)
    expect { workflow { step(:only, handler: Square) || input(required: [:n], optional: { m: :integer }) }.compiled }
      .to raise_error(TaskerCore::WorkflowError, /input.optional: .* is not a JSON Schema keyword/)
  end

  it "suggests near keys for unknown ones and shows cycles" do
    expect { workflow { step :only, handler: Square, dependson: [] }.compiled }
      .to raise_error(TaskerCore::WorkflowError,
                      /steps\[0\].dependson: \[\] \(array\) is an unknown key: did you mean `depends_on`\?/)
    round = workflow do
      step :a, depends_on: :c, handler: Square
      step :b, depends_on: :a, handler: Square
      step :c, depends_on: :b, handler: Square
    end
    expect { round.compiled }.to raise_error(TaskerCore::WorkflowError, /a → b → c → a/)
  end

  it "validates inputs before writing anything" do
    trial = workflow do
      workflow_name "strict"
      input required: { order_id: :integer }, optional: { gift: :boolean }
      step :only, handler: Square
    end
    { {} => "order_id: is missing", { order_id: "1" } => "order_id: \"1\" (string) is not of type \"integer\"",
      { order_id: 1, gfit: true } => "gfit",
      { order_id: 1, gift: Float::NAN } => "cannot be written as JSON" }.each do |input, message|
      expect { trial.create!(**input) }.to raise_error(TaskerCore::InputError, Regexp.new(Regexp.escape(message)))
    end
    expect(TaskerCore::Task.count).to eq 0
    expect(TaskerCore::WorkflowVersion.where(name: "strict")).to be_empty
  end

  it "rejects a version registered with different content" do
    first = workflow do
      version "1"
      step :only, handler: Square
    end
    other = workflow do
      version "1"
      step :another, handler: Square
    end
    first.create!
    expect { other.create! }.to raise_error(TaskerCore::WorkflowConflictError,
                                            /trial has changed since version 1 was registered/) { |error|
      expect(error.facts).to include("workflow" => "trial", "version" => "1")
    }
  end

  it "creates one task for one idempotency key" do
    first, second = Array.new(2) { Diamond.set(idempotency_key: "order-42").create!(n: 2) }
    expect([first.existing?, second.existing?]).to eq [false, true]
    expect(second.id).to eq first.id
    expect(Line.set(idempotency_key: "order-42").create!(n: 2)).not_to be_existing
  end

  it "rejects another input with the same idempotency key" do
    first = Diamond.set(idempotency_key: "order-42").create!(n: 2)
    { [{ n: 3 }] => /key "order-42" belongs to task #{first.id}, which has another input/,
      [{ n: 2 }, { n: 3 }] => /to task #{first.id}, / }.each do |inputs, message|
      expect { Diamond.set(idempotency_key: "order-42").create_all!(inputs) }
        .to raise_error(TaskerCore::IdempotencyConflictError, message) { |error| expect(error.task).to eq first }
    end
    expect { Diamond.set(idempotency_key: "twice").create_all!([{ n: 2 }, { n: 3 }]) }
      .to raise_error(TaskerCore::IdempotencyConflictError)
    expect(TaskerCore::Task.count).to eq 1
  end

  it "keeps priority, tags, correlation id and start time" do
    id = SecureRandom.uuid
    task = Diamond.set(priority: 5, tags: %w[gift], correlation_id: id, wait_until: 1.hour.from_now).create!(n: 2)
    expect(task).to have_attributes(priority: 5, tags: ["gift"], correlation_id: id, input: { "n" => 2 })
    expect(task.steps.first.state).to eq "waiting"
    expect(sweep_after(3590)).to eq 0
    expect(sweep_after(3610)).to eq 1
    expect(task.steps.first.state).to eq "ready"
  end

  it "names an invalid option" do
    { priority: "high", wait_until: "soon", correlation_id: "x", tags: "gift" }.each do |option, value|
      expect { Diamond.set(option => value).create!(n: 2) }
        .to raise_error(TaskerCore::InputError, /\A#{option}: #{value.inspect} \(String\) must be/)
    end
  end

  it "is found by name, and suggests near names" do
    expect(TaskerCore.workflow("diamond")).to be Diamond
    expect { TaskerCore.workflow("diamnd") }
      .to raise_error(TaskerCore::UnknownWorkflowError, /did you mean default.diamond\?/)
  end
end
