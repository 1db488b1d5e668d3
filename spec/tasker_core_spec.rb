# frozen_string_literal: true

RSpec.describe TaskerCore do
  describe "loading" do
    it "has a version and every file under lib defines what its name says" do
      expect(described_class::VERSION).to match(/\A\d+\.\d+\.\d+\z/)
      expect { Zeitwerk::Loader.eager_load_all }.not_to raise_error
    end

    it "names the extension in one file only" do
      files = Dir["#{root}/{lib,app}/**/*.rb"].select { |path| File.read(path).match?(/Native(?!Missing)\b.*(\.|::)\w/) }
      code = files.reject { |path| File.readlines(path).grep(/Native(?!Missing)/).all?(/^\s*#|autoload/) }
      expect(code.map { |path| path.delete_prefix("#{root}/") }).to eq ["lib/tasker_core/native.rb"]
    end

    it "says how to build the extension when it is not built" do
      output = `#{RbConfig.ruby} -Ilib -e '
        module Kernel
          alias found require
          def require(path) = path == "tasker_core/tasker_core" ? raise(LoadError, "cannot load such file") : found(path)
        end
        require "tasker_core"
        begin
          TaskerCore.config.to_h
        rescue TaskerCore::NativeMissingError => e
          puts e.message
        end' 2>&1`
      expect(output).to match(/is not built for Ruby .*run `bundle exec rake compile`/)
    end

    it "has the defaults of config/tasker-core.yaml, and an application's settings over them" do
      defaults = TaskerCore::Configuration.new
      expect(defaults[:execution, :threads]).to eq 5
      expect(defaults[:leases, :heartbeat_interval]).to eq 5.0
      expect(defaults.with(execution: { threads: 2 }, retry: { base: 2.minutes }).to_h)
        .to include(execution: include(threads: 2, processes: 1), retry: include(base: 120.0))
    end

    it "tells all that is wrong with the settings at once" do
      wrong = TaskerCore::Configuration.new({ execution: { thread: 2 }, retry: { jitter: 7 }, lease: {} })
      expect { wrong.to_h }.to raise_error(TaskerCore::ConfigurationError) { |error|
        expect(error.message).to include("did you mean `threads`?", "did you mean `leases`?")
        expect(error.problems.map { _1["field"] }).to contain_exactly("execution.thread", "lease", "retry.jitter")
      }
    end
  end

  describe "errors" do
    it "have one root and the classes that callers rescue" do
      expect(TaskerCore::TimeoutError.ancestors).to include(TaskerCore::RetryableError, TaskerCore::ProceduralError, TaskerCore::Error)
      expect(TaskerCore::PermanentError.ancestors).to include(TaskerCore::ProceduralError, TaskerCore::Error, StandardError)
      expect(TaskerCore::WorkflowConflictError.superclass).to be TaskerCore::WorkflowError
      expect(TaskerCore::FunctionsMissingError.superclass).to be TaskerCore::DatabaseError
      classes = TaskerCore.constants.map { TaskerCore.const_get(_1) }.grep(Class).select { _1 < StandardError }
      expect(classes).to all(be <= TaskerCore::Error)
    end

    it "carry what a handler says" do
      expect(TaskerCore::RetryableError.new("busy", retry_after: 30).retry_after).to eq 30
      expect(TaskerCore::PermanentError.new("no", code: "declined").code).to eq "declined"
      expect(TaskerCore::Error.from_facts("no", '{"task":1}').facts).to eq("task" => 1)
    end
  end

  describe "handlers" do
    let(:handlers) { TaskerCore::Handlers.new }
    let(:context) { TaskerCore::StepContext.from_json(File.read("#{root}/spec/fixtures/seam/claim.json")) }

    it "are made anew for each attempt, from a class or a workflow's method" do
      stub_const("Remembers", Class.new(TaskerCore::StepHandler) { def call(_) = { id: object_id } })
      handler = handlers.find("Remembers")
      expect(handler.call(context)).not_to eq handler.call(context)
      expect(handlers.find("Flaky#trial").call(context)).to eq(attempt: 1)
    end

    it "are nil when nothing of that name is defined" do
      expect(["Nowhere", "Flaky#nothing", "Flaky#raise", "Comparable", "String", "not a name"].map { handlers.find(_1) }).to all(be_nil)
    end

    it "say so when they do not define call" do
      stub_const("Empty", Class.new(TaskerCore::StepHandler))
      expect { handlers.find("Empty").call(context) }.to raise_error(TaskerCore::PermanentError, /Empty does not define #call/)
    end
  end

  describe "a step's context" do
    let(:text) { File.read("#{root}/spec/fixtures/seam/claim.json") }
    let(:context) { TaskerCore::StepContext.from_json(text) }

    it "shows the step and its task" do
      expect(context).to have_attributes(
        attempt: 1, max_attempts: 5, last_attempt?: false, step_name: "reserve_stock", workflow_name: "order_fulfillment",
        namespace: "shop", version: "1.0.0", queue: "default", task_id: 12, timeout: 30.0, tags: ["gift"],
        config: { "warehouse" => "north" }, cancelled?: false,
        idempotency_token: "01a2079a-97aa-78c1-9152-d7902fdacbf0:reserve_stock"
      )
      expect(context.input["big"]).to eq 123_456_789_012_345_678_901_234_567_890
    end

    it "is written as JSON and read back the same" do
      again = TaskerCore::StepContext.from_json(context.to_json)
      expect(again).to eq context
      expect(JSON.parse(context.to_json)).to eq JSON.parse(text)
    end

    it "is frozen, with all that is in it" do
      expect(context).to be_frozen
      expect { context.input["order_id"] = 1 }.to raise_error(FrozenError)
      expect { context.results["validate_order"]["total"] = 1 }.to raise_error(FrozenError)
    end

    it "asks for far results once, when they are first needed" do
      asked = 0
      all = { "validate_order" => {}, "receive" => { "at" => 1 } }
      context = TaskerCore::StepContext.new(JSON.parse(text), ancestors: -> { (asked += 1) && all })
      expect(context.results[:validate_order]["total"]).to eq 3_394_108_674_063_587_200
      expect(asked).to eq 0
      expect(context.results.dig("receive", "at")).to eq 1
      expect(context.results.key?("receive")).to be true
      expect(asked).to eq 1
      expect { context.results["recieve"] }.to raise_error(TaskerCore::UnknownStepError, /did you mean receive\?/)
    end
  end
end
