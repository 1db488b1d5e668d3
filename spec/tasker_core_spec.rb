# frozen_string_literal: true

RSpec.describe TaskerCore do
  describe "loading" do
    it "defines a version, and in every file what its name says" do
      expect(described_class::VERSION).to match(/\A\d+\.\d+\.\d+\z/)
      expect { Zeitwerk::Loader.eager_load_all }.not_to raise_error
    end

    it "names the extension in one file only" do
      files = Dir["#{root}/{lib,app}/**/*.rb"].select do |path|
        File.read(path).match?(/Native(?!Missing)\b.*(\.|::)\w/)
      end
      code = files.reject { |path| File.readlines(path).grep(/Native(?!Missing)/).all?(/^\s*#|autoload/) }
      expect(code.map { |path| path.delete_prefix("#{root}/") }).to eq ["lib/tasker_core/native.rb"]
    end

    it "explains how to build a missing extension" do
      output = `#{RbConfig.ruby} -Ilib -e '
        module Kernel
          alias found require
          def require(path)
            raise LoadError, "cannot load such file" if path == "tasker_core/tasker_core"
            found(path)
          end
        end
        require "tasker_core"
        begin
          TaskerCore.config.to_h
        rescue TaskerCore::NativeMissingError => e
          puts e.message
        end' 2>&1`
      expect(output).to match(/is not built for Ruby .*run `bundle exec rake compile`/)
    end

    it "merges an application's settings over the defaults" do
      defaults = TaskerCore::Configuration.new
      expect(defaults[:execution, :threads]).to eq 5
      expect(defaults[:leases, :heartbeat_interval]).to eq 5.0
      expect(defaults.with(execution: { threads: 2 }, retry: { base: 2.minutes }).to_h)
        .to include(execution: include(threads: 2, processes: 1), retry: include(base: 120.0))
    end

    it "reports all problems of the settings at once" do
      wrong = TaskerCore::Configuration.new({ execution: { thread: 2 }, retry: { jitter: 7 }, lease: {} })
      expect { wrong.to_h }.to raise_error(TaskerCore::ConfigurationError) { |error|
        expect(error.message).to include("did you mean `threads`?", "did you mean `leases`?")
        expect(error.problems.map { _1["field"] }).to contain_exactly("execution.thread", "lease", "retry.jitter")
      }
    end
  end

  describe "errors" do
    it "have one root and the classes that callers rescue" do
      expect(TaskerCore::TimeoutError.ancestors)
        .to include(TaskerCore::RetryableError, TaskerCore::ProceduralError, TaskerCore::Error)
      expect(TaskerCore::PermanentError.ancestors)
        .to include(TaskerCore::ProceduralError, TaskerCore::Error, StandardError)
      expect(TaskerCore::WorkflowConflictError.superclass).to be TaskerCore::WorkflowError
      expect(TaskerCore::FunctionsMissingError.superclass).to be TaskerCore::DatabaseError
      classes = TaskerCore.constants.map { TaskerCore.const_get(_1) }.grep(Class).select { _1 < StandardError }
      expect(classes).to all(be <= TaskerCore::Error)
    end

    it "carry the handler's delay, code and facts" do
      expect(TaskerCore::RetryableError.new("busy", retry_after: 30).retry_after).to eq 30
      expect(TaskerCore::PermanentError.new("no", code: "declined").code).to eq "declined"
      expect(TaskerCore::Error.from_facts("no", '{"task":1}').facts).to eq("task" => 1)
    end
  end

  describe "handlers" do
    let(:handlers) { TaskerCore::Worker::HandlerRegistry.new }
    let(:context) { TaskerCore::StepContext.from_json(File.read("#{root}/spec/fixtures/seam/claim.json")) }

    it "are instantiated for each attempt" do
      stub_const("Remembers", Class.new(TaskerCore::StepHandler) { def call(_) = { id: object_id } })
      handler = handlers.find("Remembers")
      expect(handler.call(context)).not_to eq handler.call(context)
      expect(handlers.find("Flaky#trial").call(context)).to eq(attempt: 1)
    end

    it "are nil when their name is undefined" do
      expect(["Nowhere", "Flaky#nothing", "Flaky#raise", "Comparable", "String",
              "not a name"].map { handlers.find(_1) }).to all(be_nil)
    end

    it "raise when they do not define call" do
      stub_const("Empty", Class.new(TaskerCore::StepHandler))
      expect { handlers.find("Empty").call(context) }
        .to raise_error(TaskerCore::PermanentError, /Empty does not define #call/)
    end
  end

  describe "a step's context" do
    let(:text) { File.read("#{root}/spec/fixtures/seam/claim.json") }
    let(:context) { TaskerCore::StepContext.from_json(text) }

    it "exposes the step and its task" do
      expect(context).to have_attributes(
        attempt: 1, max_attempts: 5, last_attempt?: false, step_name: "reserve_stock",
        workflow_name: "order_fulfillment",
        namespace: "shop", version: "1.0.0", queue: "default", task_id: 12, timeout: 30.0, tags: ["gift"],
        config: { "warehouse" => "north" }, cancelled?: false,
        idempotency_token: "01a2079a-97aa-78c1-9152-d7902fdacbf0:reserve_stock"
      )
      expect(context.input["big"]).to eq 123_456_789_012_345_678_901_234_567_890
    end

    it "round-trips through JSON" do
      again = TaskerCore::StepContext.from_json(context.to_json)
      expect(again).to eq context
      expect(JSON.parse(context.to_json)).to eq JSON.parse(text)
    end

    it "is deeply frozen" do
      expect(context).to be_frozen
      expect { context.input["order_id"] = 1 }.to raise_error(FrozenError)
      expect { context.results["validate_order"]["total"] = 1 }.to raise_error(FrozenError)
    end

    it "reads a deferred result once, on first use" do
      asked = []
      all = { "validate_order" => {}, "receive" => { "at" => 1 } }
      ancestors = lambda do |names, after|
        asked << [names, after]
        { "results" => names ? all.slice(*names) : all, "after" => nil, "names" => all.keys, "bytes" => 10 }
      end
      context = TaskerCore::StepContext.new(JSON.parse(text), ancestors: ancestors)
      expect(context.results[:validate_order]["total"]).to eq 3_394_108_674_063_587_200
      expect(asked).to be_empty
      2.times { expect(context.results.dig("receive", "at")).to eq 1 }
      expect(asked).to eq [[["receive"], nil]]
      expect(context.results.key?("receive")).to be true
      expect(asked.size).to eq 1
      expect { context.results["recieve"] }.to raise_error(TaskerCore::UnknownStepError, /did you mean receive\?/)
    end

    context "with payloads that the claim omits" do
      let(:deferred) do
        facts = { "results" => {}, "deferred" => { "input" => true, "results" => ["validate_order"] } }
        JSON.parse(text).except("input").merge(facts)
      end
      let(:asked) { [] }

      def context(**readers) = TaskerCore::StepContext.new(deferred, **readers)

      it "reads the input once and omits it from inspection" do
        input = { "order_id" => 42 }
        context = context(task_input: -> { asked.push(:input) && input })
        expect(context.inspect).to include "input=(not read yet)"
        expect(asked).to be_empty
        2.times { expect(context.input).to eq input }
        expect(asked).to eq [:input]
        expect(context).to be_frozen
      end

      it "reads all results in parts" do
        parts = { nil => [{ "receive" => { "n" => 1 } }, 0], 0 => [{ "validate_order" => { "n" => 2 } }, nil] }
        ancestors = lambda do |_names, after|
          results, continue = parts.fetch(after)
          { "results" => results, "after" => continue, "names" => %w[receive validate_order] }
        end
        results = context(ancestors: ancestors).results
        expect(results.to_h).to eq("receive" => { "n" => 1 }, "validate_order" => { "n" => 2 })
        expect(results.names).to eq %w[receive validate_order]
        expect(results.size).to eq 2
        expect(results.inspect).to eq "#<TaskerCore::StepResults of the steps before reserve_stock>"
      end

      it "caches results up to a number of bytes" do
        ancestors = lambda do |names, _after|
          asked << names.first
          { "results" => { names.first => {} }, "names" => names, "bytes" => TaskerCore::StepResults::CACHE_BYTES / 2 }
        end
        results = context(ancestors: ancestors).results
        %w[a b a b c c a].each { |name| results[name] }
        expect(asked).to eq %w[a b c a]
      end

      it "writes them all as JSON without the deferral" do
        ancestors = ->(*) { { "results" => { "validate_order" => { "n" => 2 } }, "after" => nil, "names" => [] } }
        json = JSON.parse(context(ancestors: ancestors, task_input: -> { { "n" => 1 } }).to_json)
        expect(json).to include("input" => { "n" => 1 }, "results" => { "validate_order" => { "n" => 2 } })
        expect(json).not_to have_key("deferred")
      end
    end
  end
end
