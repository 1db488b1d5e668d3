# frozen_string_literal: true

# A job that can never be performed is rejected at compilation, in a class and in a YAML file.
RSpec.describe TaskerCore::Workflows::JobValidator do
  def job(&body)
    Class.new(ActiveJob::Base, &body)
  end

  before do
    stub_const("PlainJob", job { def perform(order_id, note = nil) = [order_id, note] })
    stub_const("OpenJob", job { def perform(*ids, **options) = [ids, options] })
    stub_const("KeyedJob", job { def perform(order, currency:, note: nil) = [order, currency, note] })
    stub_const("SilentJob", Class.new(ActiveJob::Base))
    stub_const("PrivateJob", job { private def perform = nil })
    stub_const("NoJob", Class.new { def perform = nil })
  end

  def compiled(**options)
    Class.new(TaskerCore::Workflow) do
      workflow_name "trial"
      step :only, **options
    end.compiled
  end

  def problems(**options)
    compiled(**options)
    []
  rescue TaskerCore::WorkflowError => e
    prefix, text = e.message.partition("the workflow cannot be compiled: ").last(2)
    expect(prefix).to be_present
    expect(text.split("; ")).to eq(e.problems.map do |problem|
      field, value, kind, message = problem.values_at("field", "value", "kind", "message")
      kind == "nothing" ? "#{field}: #{message}" : "#{field}: #{value} (#{kind}) #{message}"
    end)
    text.split("; ")
  end

  {
    { job: "PlainJb" } => 'steps[0].job: "PlainJb" (string) is not defined: did you mean PlainJob?',
    { job: "Nowhere::At" } => "is not defined: correct the name, or require the file that defines it",
    { job: "NoJob" } => 'steps[0].job: "NoJob" (string) is not an Active Job: it must inherit from ActiveJob::Base',
    { job: "Kernel" } => "is not an Active Job",
    { job: "SilentJob" } => "does not define perform",
    { job: "PlainJob" } =>
      "steps[0].arguments: has 0 positional arguments, which PlainJob#perform(order_id, note = …) does not take",
    { job: "PlainJob", arguments: [1, 2, 3] } => "steps[0].arguments: [1,2,3] (array) has 3 positional arguments",
    { job: "PlainJob", arguments: { order_id: 1 } } =>
      'steps[0].arguments: {"order_id":1} (object) has 0 positional arguments',
    { job: "KeyedJob", arguments: [1] } => "lacks the keyword currency of KeyedJob#perform(order, currency:, note: …)",
    { job: "KeyedJob", arguments: [1, { currency: "EUR", nte: 1 }] } => "has the keyword nte, which KeyedJob#perform(",
    { job: "KeyedJob", arguments: [1, { "$global_id": "gid://a/B/1" }] } => "has 2 positional arguments"
  }.each do |options, message|
    it "rejects #{options} in a class and in a YAML file" do
      expect(problems(**options)).to contain_exactly(include(message))
      Dir.mktmpdir do |directory|
        path = "#{directory}/trial.yaml"
        File.write(path, YAML.dump({ name: "trial", steps: [{ name: "only", **options }] }.deep_stringify_keys))
        expect { TaskerCore::Workflows::YamlFile.new(path).compiled }
          .to raise_error(TaskerCore::WorkflowError, /\A#{Regexp.escape(path)}: .*#{Regexp.escape(message)}/)
      end
    end
  end

  [{ job: "PlainJob", arguments: ["$.input"] }, { job: "PlainJob", arguments: [1, { a: 1 }] },
   { job: "OpenJob" }, { job: "OpenJob", arguments: [1, 2, { a: 1 }] }, { job: "OpenJob", arguments: { a: 1 } },
   { job: "KeyedJob", arguments: [{ a: 1 }, { currency: "EUR" }] }, { job: "PrivateJob" }].each do |options|
    it "accepts #{options}" do
      expect(problems(**options)).to eq []
    end
  end

  it "accepts a class, and compiles to the same version as its name" do
    expect(compiled(job: PlainJob, arguments: [1]).digest).to eq compiled(job: "PlainJob", arguments: [1]).digest
    expect(JSON.parse(compiled(job: PlainJob, arguments: [:a]).definition_json)["steps"].first)
      .to include("handler" => "PlainJob.perform_now", "config" => { "$arguments" => ["a"] })
  end

  it "reports every problem of the declaration together" do
    found = problems(job: "Nowhere", handler: "Square", arguments: ["$.inptu"], queue: "a b")
    expect(found.map { _1[/\A[^:]+/] }).to eq %w[steps[0].handler steps[0].queue steps[0].arguments[0] steps[0].job]
  end

  it "suggests job: for a job that is given as a handler" do
    expect { compiled(handler: "PlainJob") }
      .to raise_error(TaskerCore::WorkflowError, /PlainJob is an Active Job: name it with `job:`/)
  end
end
