# frozen_string_literal: true

# A handler that can never run is rejected at compilation, in a class and in a YAML file.
RSpec.describe TaskerCore::Workflows::HandlerValidator do
  before do
    stub_const("Good", Class.new { def call(_context) = {} })
    stub_const("Optional", Class.new { def call(_context = nil, *_more, **_options) = {} })
    stub_const("Silent", Class.new)
    stub_const("Abstract", Class.new(TaskerCore::StepHandler))
    stub_const("Hidden", Class.new { private def call(_context) = {} })
    stub_const("Bare", Class.new { def call = {} })
    stub_const("Keyed", Class.new { def call(_context, order:) = order })
    stub_const("Wide", Class.new { def call(_context, _other) = {} })
    stub_const("Built", Class.new { def initialize(client) = @client = client; def call(_context) = {} })
    stub_const("Helper", Module.new { def self.call(_context) = {} })
    stub_const("ALWAYS", ->(_context) { {} })
  end

  {
    "Silent" => /Silent#call is not defined: define call\(context\)/,
    "Abstract" => /Abstract#call is not defined: define call\(context\)/,
    "Hidden" => /Hidden#call is not public/,
    "Bare" => /Bare#call cannot be called with one argument: define call\(context\)/,
    "Keyed" => /Keyed#call cannot be called with one argument/,
    "Wide" => /Wide#call cannot be called with one argument/,
    "Built" => /Built cannot be made without arguments/,
    "Helper" => /Helper is of the class Module, and must be a class/,
    "ALWAYS" => /ALWAYS is of the class Proc, and must be a class/,
    "Good#charge" => /Good#charge is not defined: define charge\(context\)/,
    "Good#display" => /Good#display is not defined/
  }.each do |handler, message|
    it "rejects #{handler} in a class and in a YAML file" do
      workflow = Class.new(TaskerCore::Workflow) do
        workflow_name "trial"
        step :only, handler: handler
      end
      expect { workflow.compiled }
        .to raise_error(TaskerCore::WorkflowError, /step only of .* has no handler: .*#{message}/)
      Dir.mktmpdir do |directory|
        File.write("#{directory}/trial.yaml", "name: trial\nsteps: [{ name: only, handler: \"#{handler}\" }]\n")
        expect { TaskerCore::Workflows::Registry.new.load_file("#{directory}/trial.yaml") }
          .to raise_error(TaskerCore::WorkflowError, /trial.yaml: step only has no handler: .*#{message}/)
      end
    end
  end

  it "accepts callable classes and undefined names" do
    expect(["Good", Good, "Optional", "Nowhere", "Nowhere#charge"].map { |handler| described_class.problem(handler) })
      .to all be_nil
  end

  {
    "without a method" => [->(flow) { flow.step :charge },
                           /no handler: define the method .*#charge\(context\), or name a class/],
    "that every object has a method for" => [->(flow) { flow.step :display },
                                             /every object has a method named display: rename the step/],
    "whose method takes nothing" => [->(flow) { flow.step(:charge) || flow.define_method(:charge) { {} } },
                                     /#charge cannot be called with one argument/],
    "whose method is private" => [
      ->(flow) { flow.step(:charge) || flow.class_eval { private def charge(_context) = {} } }, /#charge is not public/
    ],
    "with a block" => [->(flow) { flow.step(:charge) { |_context| {} } },
                       /step charge of .* has a block, which has no effect: define the method charge\(context\)/]
  }.each do |what, (declaration, message)|
    it "rejects a step #{what}" do
      flow = Class.new(TaskerCore::Workflow) { workflow_name("trial") }
      expect { [declaration.call(flow), flow.compiled] }.to raise_error(TaskerCore::WorkflowError, message)
    end
  end

  it "accepts a step named like an Object method if defined" do
    flow = Class.new(TaskerCore::Workflow) { workflow_name("trial") }
    flow.step :display
    flow.define_method(:display) { |_context| {} }
    expect(flow.compiled.step_names).to eq ["display"]
  end
end
