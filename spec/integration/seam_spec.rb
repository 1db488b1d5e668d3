# frozen_string_literal: true

require "timeout"

# The seam between Ruby and Rust: waiting, interrupting, forking, garbage collection.
RSpec.describe "The seam" do
  def start(overrides = {})
    TaskerCore::Bridge.start_orchestrator(database: TaskerCore::Postgres::Address.current,
                                          configuration: TaskerCore.config.with(overrides),
                                          name: "seam")
  end

  let(:orchestrator) { start }

  after { orchestrator.stop(0.0) }

  it "lets other threads run during a wait" do
    waiting = Thread.new { orchestrator.next_step }
    eventually { waiting.status == "sleep" || waiting.stop? }
    expect(Array.new(1000) { 1 }.sum).to eq 1000
    orchestrator.drain
    expect(waiting.value).to be_nil
  end

  it "ends a wait at once when its thread is killed" do
    waiting = Thread.new { orchestrator.next_step }
    eventually { waiting.stop? }
    expect(waiting.kill.join(120)).to be waiting
  end

  it "ends a wait at a time limit without losing a claim" do
    expect { Timeout.timeout(0.1) { orchestrator.next_step } }.to raise_error(Timeout::Error)
    task = Diamond.create!(n: 2)
    claim = JSON.parse(Timeout.timeout(120) { orchestrator.next_step })
    expect(claim).to include("task_id" => task.id, "step" => "a", "handler" => "Square", "input" => { "n" => 2 })
    expect(claim.keys).to match_array JSON.parse(File.read("#{root}/spec/fixtures/seam/claim.json")).keys
  end

  it "raises in the waiting thread what is raised into it" do
    waiting = Thread.new { orchestrator.next_step }
    waiting.report_on_exception = false
    eventually { waiting.stop? }
    waiting.raise(ArgumentError, "enough")
    expect { waiting.value }.to raise_error(ArgumentError, "enough")
  end

  it "rejects use in a forked child, which can start its own" do
    expect(orchestrator.process_id).to be_positive
    inherited, own, child = in_child_process do
      inherited = begin
        orchestrator.next_step
      rescue TaskerCore::InternalError => e
        e.message
      end
      own = start
      [inherited, own.process_id, Process.pid].tap { own.stop(0.0) }
    end
    expect(inherited)
      .to match(/belongs to process #{Process.pid}, this is process #{child}: start an orchestrator after the fork/)
    expect(own).not_to eq orchestrator.process_id
    expect(orchestrator.health[:process]).to eq orchestrator.process_id
  end

  it "survives a collection at every allocation" do
    Diamond.create!(n: 2)
    token = JSON.parse(Timeout.timeout(120) { orchestrator.next_step })["token"]
    outcome = %({"token":#{token},"outcome":"completed","result":{"n":4}})
    settings = TaskerCore.config.native
    native = TaskerCore::Native
    results = collecting do
      [raised { native::CompiledWorkflow.compile('{"steps":[]}', settings) },
       native::Configuration.load("{}").then { [_1.to_h, _1.describe] },
       orchestrator.finish(outcome), orchestrator.health]
    end
    expect(results)
      .to match [TaskerCore::WorkflowError, native::Configuration.load("{}").then { [_1.to_h, _1.describe] }, nil,
                 a_hash_including(:held)]
    eventually { TaskerCore::StepAttempt.count == 1 }
    expect(TaskerCore::StepAttempt.first.outcome).to eq "completed"
  end

  it "explains an invalid outcome and keeps the lease" do
    Diamond.create!(n: 2)
    token = JSON.parse(Timeout.timeout(120) { orchestrator.next_step })["token"]
    expect { orchestrator.finish(%({"token":#{token},"outcome":"completed","reslt":{}})) }
      .to raise_error(TaskerCore::InternalError, /unknown field `reslt`/)
    expect { orchestrator.finish(%({"token":#{token},"outcome":"completed"})) }
      .to raise_error(TaskerCore::InternalError, /a completed outcome needs `result`/)
    expect { orchestrator.finish("nonsense") }.to raise_error(TaskerCore::InternalError, /cannot be read/)
    expect { orchestrator.finish('{"token":99999,"outcome":"completed","result":{}}') }
      .to raise_error(TaskerCore::StaleAttemptError)
    expect(orchestrator.health).to include(running: 1, held: 1)
  end

  it "names an invalid setting at the start" do
    expect do
      TaskerCore::Native::Orchestrator.start('{"databse":{}}', TaskerCore.config.native, TaskerCore.events.native)
    end.to raise_error(TaskerCore::ConfigurationError, /unknown field `databse`/)
    expect { start(execution: { threads: 0 }) }.to raise_error(TaskerCore::ConfigurationError, /execution.threads: 0/)
    nowhere = TaskerCore::Postgres::Address.of(host: "/nowhere")
    expect { TaskerCore::Bridge.start_orchestrator(database: nowhere, configuration: TaskerCore.config, name: "x") }
      .to raise_error(TaskerCore::DatabaseError, /the database cannot be used/)
  end
end
