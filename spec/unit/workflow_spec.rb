# frozen_string_literal: true

RSpec.describe TaskerCore::Workflow do
  def workflow(&declarations)
    Class.new(described_class) do
      workflow_name "trial"
      class_eval(&declarations)
    end
  end

  it "compiles to the same version as the YAML file of the same graph" do
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
    expect(twin.compiled.levels).to eq("a" => 0, "b" => 1, "c" => 1, "d" => 2)
  end

  it "gives a version that its author did not name by its content" do
    expect(workflow { step :only, handler: Square }.version).to match(/\A0\.0\.0\+\h{12}\z/)
  end

  it "refuses a step without a handler and says what to define" do
    expect { workflow { step :charge }.compiled }
      .to raise_error(TaskerCore::WorkflowError, /step charge of .*has no handler: define the method/)
  end

  it "refuses the name of a queue that no command line can give" do
    ["high priority", "high,low", " ", "*"].each do |queue|
      expect { workflow { step :only, handler: Square, queue: queue }.compiled }
        .to raise_error(TaskerCore::WorkflowError, /steps\[0\].queue: #{Regexp.escape(queue.inspect)} \(string\) must be a name .* without spaces and commas/)
    end
  end

  it "takes what is declared after it was compiled" do
    late = workflow { step :only, handler: Square }
    late.compiled
    late.class_eval { namespace("late") and version("2") }
    expect([late.compiled.namespace, late.compiled.version]).to eq %w[late 2]
  end

  it "refuses an input with unknown keys" do
    expect { workflow { input required: { n: :integer }, optionl: { m: :integer } } }
      .to raise_error(TaskerCore::WorkflowError, /input of .*: unknown keyword: :optionl: there are required: and optional:/)
    expect { workflow { input required: { n: :integer }, optional: :m } }.to raise_error(TaskerCore::WorkflowError, /there are required: and optional:/)
    expect { workflow { step(:only, handler: Square) || input(requird: { n: :integer }) }.compiled }
      .to raise_error(TaskerCore::WorkflowError, /input.requird: .* is no keyword of JSON Schema: did you mean `required`\?/)
    expect { workflow { step(:only, handler: Square) || input(required: { n: { type: :integer, minimun: 1 } }) }.compiled }
      .to raise_error(TaskerCore::WorkflowError, /input.properties.n.minimun: 1 .*did you mean `minimum`\?/)
    expect { workflow { step(:only, handler: Square) || input(required: [:n], optional: { m: :integer }) }.compiled }
      .to raise_error(TaskerCore::WorkflowError, /input.optional: .* is no keyword of JSON Schema/)
  end

  it "refuses unknown keys with the nearest known one, and a cycle with its path" do
    expect { workflow { step :only, handler: Square, dependson: [] }.compiled }
      .to raise_error(TaskerCore::WorkflowError, /steps\[0\].dependson: \[\] \(array\) is an unknown key: did you mean `depends_on`\?/)
    round = workflow do
      step :a, depends_on: :c, handler: Square
      step :b, depends_on: :a, handler: Square
      step :c, depends_on: :b, handler: Square
    end
    expect { round.compiled }.to raise_error(TaskerCore::WorkflowError, /a → b → c → a/)
  end

  it "holds an input against its declaration, and writes nothing when it does not fit" do
    trial = workflow do
      workflow_name "strict"
      input required: { order_id: :integer }, optional: { gift: :boolean }
      step :only, handler: Square
    end
    { {} => "order_id: is missing", { order_id: "1" } => "order_id: \"1\" (string) is not of type \"integer\"",
      { order_id: 1, gfit: true } => "gfit", { order_id: 1, gift: Float::NAN } => "cannot be written as JSON" }.each do |input, message|
      expect { trial.create!(**input) }.to raise_error(TaskerCore::InputError, Regexp.new(Regexp.escape(message)))
    end
    expect(TaskerCore::Task.count).to eq 0
    expect(TaskerCore::WorkflowVersion.where(name: "strict")).to be_empty
  end

  it "refuses a version that is registered with another content" do
    first = workflow do
      version "1"
      step :only, handler: Square
    end
    other = workflow do
      version "1"
      step :another, handler: Square
    end
    first.create!
    expect { other.create! }.to raise_error(TaskerCore::WorkflowConflictError, /trial has changed since version 1 was registered/) { |error|
      expect(error.facts).to include("workflow" => "trial", "version" => "1")
    }
  end

  it "creates one task for one idempotency key" do
    first, second = Array.new(2) { Diamond.set(idempotency_key: "order-42").create!(n: 2) }
    expect([first.existing?, second.existing?]).to eq [false, true]
    expect(second.id).to eq first.id
    expect(Line.set(idempotency_key: "order-42").create!(n: 2)).not_to be_existing
  end

  it "refuses another input with the same idempotency key, and names the first task" do
    first = Diamond.set(idempotency_key: "order-42").create!(n: 2)
    { [{ n: 3 }] => /key "order-42" is taken by the task #{first.id}, which has another input/,
      [{ n: 2 }, { n: 3 }] => /the task #{first.id}, / }.each do |inputs, message|
      expect { Diamond.set(idempotency_key: "order-42").create_all!(inputs) }.to raise_error(TaskerCore::IdempotencyConflictError, message) { |error|
        expect(error.task).to eq first
      }
    end
    expect { Diamond.set(idempotency_key: "twice").create_all!([{ n: 2 }, { n: 3 }]) }.to raise_error(TaskerCore::IdempotencyConflictError)
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

  it "names the option that cannot be used" do
    { priority: "high", wait_until: "soon", correlation_id: "x", tags: "gift" }.each do |option, value|
      expect { Diamond.set(option => value).create!(n: 2) }.to raise_error(TaskerCore::InputError, /\A#{option}: #{value.inspect} \(String\) must be/)
    end
  end

  it "is found by name, and an unknown name by its nearest" do
    expect(TaskerCore.workflow("diamond")).to be Diamond
    expect { TaskerCore.workflow("diamnd") }.to raise_error(TaskerCore::UnknownWorkflowError, /did you mean default.diamond\?/)
  end
end
