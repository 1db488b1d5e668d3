# frozen_string_literal: true

require "spec_helper"

RSpec.describe TaskerCore::Worker::StepRunner, "with payloads that the claim omits" do
  let(:claim) { JSON.parse(File.read("spec/fixtures/seam/claim.json")) }
  let(:deferred) { claim.except("input").merge("deferred" => { "input" => true, "results" => ["far"] }) }

  def runner(handler, ancestors: ->(*) { raise "not asked for" }, inputs: ->(_) { raise "not asked for" })
    handlers = Class.new { define_method(:find) { |_| handler } }.new
    source = instance_double(TaskerCore::Native::Orchestrator)
    allow(source).to receive(:ancestor_results, &ancestors)
    allow(source).to receive(:task_input, &inputs)
    described_class.new(handlers: handlers, contexts: TaskerCore::Worker::ContextBuilder.new(source),
                        watchdog: TaskerCore::Worker::Watchdog.new(grace: 30))
  end

  def outcome(...) = JSON.parse(runner(...).run(JSON.generate(deferred)))

  it "reads them by the claim's token when the handler asks" do
    ancestors = ->(token, names, after) { JSON.generate(results: { "far" => [token, names, after] }, names: ["far"]) }
    handler = ->(context) { { far: context.results["far"], input: context.input } }
    outcome = outcome(handler, ancestors: ancestors, inputs: ->(token) { JSON.generate(token: token) })
    expect(outcome["result"]).to eq("far" => [7, ["far"], nil], "input" => { "token" => 7 })
  end

  {
    TaskerCore::InputError.new("invalid byte sequence") => false,
    TaskerCore::DatabaseError.new("missing chunk", facts: { "damaged" => true }) => false,
    TaskerCore::DatabaseError.new("connection refused") => true
  }.each do |error, retryable|
    it "ends the attempt and names the value on: #{error.message}" do
      input = outcome(:input.to_proc, inputs: ->(_) { raise error })
      expect(input).to include("outcome" => "failed", "retryable" => retryable)
      expect(input["error"]["message"]).to eq "step reserve_stock: the task's input cannot be read: #{error.message}"
      result = outcome(->(context) { context.results["far"] }, ancestors: ->(*) { raise error })
      expect(result["error"]["message"])
        .to eq "step reserve_stock: the result of `far` cannot be read: #{error.message}"
      expect(result["retryable"]).to be retryable
    end
  end
end
