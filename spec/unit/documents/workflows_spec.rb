# frozen_string_literal: true

require "tasker_core/testing"
require_relative "../../../rakelib/workflow_reference"

RSpec.describe "docs/workflows.md" do
  include TaskerCore::Testing

  let(:reference) { WorkflowReference.new(TaskerCore::Configuration.new.describe[:settings]) }
  let(:document) { File.read(WorkflowReference::DOCUMENT) }

  def blocks(language) = document.scan(/^```#{language}\n(.*?)^```$/m).flatten

  # The keys that the reader itself accepts.
  def known(definition)
    TaskerCore::Bridge.compile(definition)
  rescue TaskerCore::WorkflowError => e
    e.message[/expected one of ([\w, ]+)/, 1].split(", ")
  end

  it "matches the reference generated from the code" do
    File.write(WorkflowReference::DOCUMENT, reference.document) if ENV.key?("UPDATE_DOCS")
    expect(document).to eq(reference.document), "UPDATE_DOCS=1 writes it anew"
  end

  it "lists every key of a definition, and no other" do
    step = { name: "a", handler: "A" }
    expect(reference.keys("WORKFLOW_KEYS").map(&:first)).to eq known(name: "w", steps: [step], zzz: 1)
    expect(reference.keys("STEP_KEYS").map(&:first)).to eq known(name: "w", steps: [step.merge(zzz: 1)])
    retry_keys = known(name: "w", steps: [step.merge(retry: { zzz: 1 })])
    expect(document[/### Keys of `retry`\n(.*?)\n###/m, 1].scan(/^\| `(\w+)`/).flatten).to eq retry_keys
  end

  it "gives each key a type and a purpose" do
    rows = reference.keys("WORKFLOW_KEYS") + reference.keys("STEP_KEYS")
    expect(rows.map(&:size)).to all(eq 3)
  end

  it "lists every class method and every context method" do
    words = TaskerCore::Workflow.singleton_methods(false) - [:inherited] + [:event] +
            TaskerCore::Workflows::Creatable.instance_methods
    context = TaskerCore::StepContext.public_instance_methods(false) - %i[== as_json to_json inspect log_context]
    expect((words + context).reject { |word| document.match?(/^\| `#{Regexp.escape(word.to_s)}[`(]/) }).to eq []
  end

  describe "examples" do
    before do
      stub_const("GiveBack",
                 Class.new(TaskerCore::StepHandler) { def call(context) = { back: context.input["order_id"] } })
      workflows = TaskerCore::Workflows::Registry.new
      allow(TaskerCore).to receive(:workflows).and_return(workflows)
      Dir.mktmpdir do |directory|
        File.write("#{directory}/refund.yaml", blocks("yaml").first)
        workflows.load_file("#{directory}/refund.yaml")
      end
    end

    after do
      %i[OrderFulfillment ChargeCardJob Checkout].each do |name|
        Object.send(:remove_const, name) if Object.const_defined?(name)
      end
    end

    it "declare and start workflows" do
      declared, *starting = blocks("ruby").grep_v(/^class Checkout/)
      TOPLEVEL_BINDING.eval(declared)
      expect(OrderFulfillment.compiled.step_names).to eq %w[validate_order charge_card]
      ActiveRecord::Base.transaction do
        made = starting.flat_map { |block| eval(block) } # rubocop:disable Security/Eval -- of our own document
        expect(made.map { |task| task.input["order_id"] }).to eq [42, 43, 44]
        raise ActiveRecord::Rollback
      end
    end

    it "run a job as a step, declared in a class or in a file" do
      TOPLEVEL_BINDING.eval(blocks("ruby").grep(/^class Checkout/).first)
      ActiveRecord::Base.transaction do
        task = Checkout.create!(order_id: 42)
        perform_tasks
        expect(task).to have_completed_step(:charge).with_result(charge: "42: 4900 EUR")
        raise ActiveRecord::Rollback
      end
      step = YAML.safe_load(blocks("yaml").last).first
      compiled = ->(definition) { JSON.parse(TaskerCore::Bridge.compile(definition).definition_json)["steps"].last }
      same = compiled.call(name: "w", steps: [{ name: "price", handler: "A" }, step])
      declared = JSON.parse(Checkout.compiled.definition_json)["steps"].last
      expect(same.slice("handler", "config", "name")).to eq declared.slice("handler", "config", "name")
    end
  end
end
