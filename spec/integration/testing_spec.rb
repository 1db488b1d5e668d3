# frozen_string_literal: true

require "minitest"
require "minitest/assertions"
require "tasker_core/testing"

# An order is priced, charged and sent.
class KitOrder < TaskerCore::Workflow
  input required: { total: :integer }

  step :price
  step :charge, depends_on: :price, retry: { max_attempts: 3, backoff: :fixed, base: 60, jitter: 0 }
  step :send_parcel, depends_on: :charge

  def price(context) = { total: context.input["total"] }
  def charge(context) = { charged: context.results["price"]["total"] }
  def send_parcel(context) = { paid: context.results["price"]["total"], attempts: context.results["charge"] }
end

class KitOther < TaskerCore::Workflow
  step :only
  def only(_context) = {}
end

RSpec.describe TaskerCore::Testing do
  include RSpec::Rails::RailsExampleGroup
  include described_class

  def clock = ActiveRecord::Base.connection.select_value("select tasker_core_v1.current_time()").to_time

  def steps(performed) = performed.map(&:step)

  shared_examples "a kit" do
    it "performs ready steps until none is left and reports them" do
      task = KitOrder.create!(total: 3)
      performed = perform_tasks
      expect(performed.map { [_1.task_id, _1.workflow, _1.step, _1.attempt, _1.outcome, _1.result] }).to eq [
        [task.id, "kit_order", "price", 1, "completed", { "total" => 3 }],
        [task.id, "kit_order", "charge", 1, "completed", { "charged" => 3 }],
        [task.id, "kit_order", "send_parcel", 1, "completed", { "paid" => 3, "attempts" => { "charged" => 3 } }]
      ]
      expect(task).to have_completed.and have_completed_step(:charge).with_result(charged: 3).after_attempts(1)
      expect(perform_tasks).to eq []
      expect(ActiveRecord::Base.connection.select_value("select count(*) from tasker_processes")).to eq 0
    end

    it "performs one workflow or a number of steps only" do
      order = KitOrder.create!(total: 1)
      other = KitOther.create!
      expect(perform_tasks(only: KitOther).size).to eq 1
      expect(outline(order)).to eq [["price", "ready", 0], ["charge", "pending", 0], ["send_parcel", "pending", 0]]
      expect(order.attempts).to be_empty
      expect(steps(perform_tasks(limit: 2))).to eq %w[price charge]
      expect(other).to have_completed
      expect(order).not_to have_completed
    end

    it "performs waiting steps when the clock has moved" do
      raise_in_step(KitOrder, :charge, "busy", times: 2)
      task = KitOrder.set(wait_until: 1.hour.from_now).create!(total: 1)
      expect(perform_tasks).to eq []
      expect(task).to have_waiting_step(:price)
      expect(steps(perform_tasks(at: 61.minutes.from_now))).to eq %w[price charge]
      expect(task).to have_waiting_step(:charge).with_error("busy").after_attempts(1)
      expect(clock).to be_within(60).of(Time.now)
      tasker_travel 70.minutes
      expect(clock).to be_within(60).of(70.minutes.from_now)
      expect(perform_tasks.map { [_1.step, _1.exception.message] }).to eq [%w[charge busy]]
      tasker_travel 1.minute
      expect(steps(perform_tasks)).to eq %w[charge send_parcel]
      tasker_travel_back
      expect(clock).to be_within(60).of(Time.now)
    end

    it "follows Active Support's clock" do
      extend ActiveSupport::Testing::TimeHelpers

      freeze_time
      task = KitOrder.set(wait_until: 1.hour.from_now).create!(total: 1)
      expect(perform_tasks).to eq []
      travel 1.hour
      expect(perform_tasks.size).to eq 3
      expect(task.attempts.first.claimed_at).to be_within(60).of(Time.now)
    ensure
      travel_back
    end

    it "replaces handlers by stubs and raises in steps" do
      stub_step(KitOrder, :charge) { |context| { charged: context.results["price"]["total"] * 2 } }
      task = KitOrder.create!(total: 2)
      perform_tasks
      expect(task).to have_completed_step(:send_parcel).with_result(include("attempts" => { "charged" => 4 }))

      raise_in_step(KitOrder, :charge, TaskerCore::PermanentError.new("card declined", code: "declined"))
      task = KitOrder.create!(total: 2)
      expect(perform_tasks.last).to be_failed
      expect(task).to have_failed_step(:charge).with_error(/declined/).with_code("declined")
      expect(task).to have_failed_step(:charge).with_error(TaskerCore::PermanentError)
      expect(task).to have_failed
      expect { stub_step(KitOrder, :chrage) }
        .to raise_error(TaskerCore::UnknownStepError, /chrage is not a step of kit_order: did you mean charge\?/)
    end

    it "continues after a statement that the database rejects" do
      stub_step(KitOrder, :charge) { |_| ActiveRecord::Base.connection.execute("select 1 / 0") }
      task = KitOrder.create!(total: 2)
      expect(perform_tasks.last.exception).to be_a ActiveRecord::StatementInvalid
      expect(task).to have_waiting_step(:charge).with_error("division by zero")

      stub_step(KitOther, :only) { |_| { text: "a\0b" } }
      task = KitOther.create!
      expect(perform_tasks.last.outcome).to eq "failed"
      expect(task).to have_failed_step(:only).with_error("cannot be stored")
    end

    it "reports a step that was revoked meanwhile" do
      stub_step(KitOther, :only) do |context|
        context.task.cancel!(reason: "enough", by: "test")
        { cancelled: context.cancelled? }
      end
      task = KitOther.create!
      expect(perform_tasks.map(&:outcome)).to eq ["stale"]
      expect(task.state).to eq "cancelled"
    end

    it "ends the test on a failed expectation or an interrupt" do
      task = KitOther.create!
      stub_step(KitOther, :only) { |_| expect(1).to eq 2 }
      expect { perform_tasks }.to raise_error(RSpec::Expectations::ExpectationNotMetError)
      expect(task.step(:only).attempts).to eq 1
      KitOther.create!
      stub_step(KitOther, :only) { |_| raise Interrupt }
      expect { perform_tasks }.to raise_error(Interrupt)
    end
  end

  context "with transactional tests" do
    self.use_transactional_tests = true

    it_behaves_like "a kit"

    2.times do |number|
      it "commits in handlers and leaves the next test clean (#{number})" do
        committed = []
        expect(TaskerCore::Task.count).to eq 0
        stub_step(KitOther, :only) do |_|
          if Rails.version >= "7.2"
            ActiveRecord::Base.transaction do
              ActiveRecord::Base.connection.current_transaction.after_commit { committed << 1 }
            end
          end
          ActiveRecord::Base.transaction { KitOrder.create!(total: 1) }
          {}
        end
        KitOther.create!
        expect(steps(perform_tasks)).to eq %w[only price charge send_parcel]
        expect(committed).to eq [1] if Rails.version >= "7.2"
        tasker_travel 1.day
      end
    end

    it "restores the real clock for the next test" do
      expect(clock).to be_within(60).of(Time.now)
    end
  end

  context "with committing tests" do
    it_behaves_like "a kit"
  end

  it "names a missing handler and leaves its step ready" do
    stub_const("Absent", Class.new(TaskerCore::Workflow) do
      workflow_name "absent"
      step :one, handler: "Nowhere"
    end)
    task = Absent.create!
    expect { perform_tasks }
      .to raise_error(TaskerCore::Testing::MissingHandlerError,
                      /step one of absent: its handler Nowhere is not defined/)
    expect(outline(task)).to eq [["one", "ready", 0]]
  end

  it "shows the task's state in a failure message" do
    raise_in_step(KitOrder, :price, TaskerCore::PermanentError.new("no"))
    task = KitOrder.create!(total: 1)
    perform_tasks
    expect { expect(task).to have_completed_step(:price).with_result(total: 1) }.to raise_error(
      RSpec::Expectations::ExpectationNotMetError,
      /expected a task to have the step price in the state complete, with result .*, but task #{task.id} is error:
  price error \(attempts: 1\): TaskerCore::PermanentError: no\n/
    )
    expect { expect(task).to have_completed }
      .to raise_error(/expected a task in the state complete, but task #{task.id} is error/)
    expect { expect(task).to have_failed_step(:prise) }.to raise_error(TaskerCore::UnknownStepError)
  end

  it "asserts the same in Minitest" do
    suite = Class.new do
      include Minitest::Assertions
      include TaskerCore::Testing

      attr_accessor :assertions

      def initialize = @assertions = 0
    end
    test = suite.new
    raise_in_step(KitOrder, :charge, TaskerCore::PermanentError.new("no", code: "c"))
    task = KitOrder.create!(total: 1)
    perform_tasks
    test.assert_step_completed task, :price, result: { total: 1 }
    test.assert_step_failed task, :charge, error: /n/, code: "c"
    test.assert_task_failed task
    expect { test.assert_step_completed task, :charge }
      .to raise_error(Minitest::Assertion, /charge error \(attempts: 1\)/)
    expect { test.assert_step_completed task, :price, result: { total: 2 } }
      .to raise_error(Minitest::Assertion, /price has result .*1/)
    expect { test.assert_step_waiting task, :charge, error: RuntimeError }.to raise_error(Minitest::Assertion)
    expect { test.assert_task_completed task }.to raise_error(Minitest::Assertion)
  end

  it "builds a context for a single handler" do
    context = step_context(input: { total: 1 }, results: { price: { total: 5 } }, attempt: 3)
    expect(KitOrder.new.charge(context)).to eq(charged: 5)
    expect(context).to be_last_attempt
    expect { context.results["charge"] }.to raise_error(TaskerCore::UnknownStepError)
    expect { step_context(atempt: 3) }
      .to raise_error(ArgumentError, "step_context: atempt is an unknown fact: did you mean attempt?")
    expect { step_context(zzz: 3) }
      .to raise_error(ArgumentError, /zzz is an unknown fact: expected one of token, task_id, /)
  end
end
