# frozen_string_literal: true

RSpec.describe TaskerCore::Dispatch::Adapter do
  before { @adapter = TaskerCore::StepJob.queue_adapter }
  after { TaskerCore::StepJob.queue_adapter = @adapter }

  # @yieldparam jobs [Array<TaskerCore::StepJob>] that are enqueued
  def enqueue_two(&enqueue_all)
    stub_const("TestQueueAdapter", Class.new do
      define_method(:enqueue_all, &enqueue_all)
      define_method(:enqueue) { |_| nil }
      define_method(:enqueue_at) { |*| nil }
    end)
    TaskerCore::StepJob.queue_adapter = TestQueueAdapter.new
    step = { "claim" => { "token" => 7 }, "queue" => "urgent", "priority" => 3, "task_uuid" => "u",
             "namespace" => "shop", "workflow" => "order", "step" => "charge" }
    described_class.new.enqueue([step, step])
  end

  it "counts jobs of which the adapter says nothing as enqueued, as Sidekiq does" do
    expect(enqueue_two(&:size)).to eq [nil, nil]
  end

  it "returns the error of each job that was not enqueued" do
    errors = enqueue_two do |jobs|
      jobs.first.successfully_enqueued = true
      jobs.last.successfully_enqueued = false
      1
    end
    expect(errors).to match [nil, { class: "ActiveJob::EnqueueError", message: /test_queue.* did not accept the job/i }]
  end

  it "returns an error of the adapter for the jobs that it has not accepted before" do
    errors = enqueue_two do |jobs|
      jobs.first.successfully_enqueued = true
      raise IOError, "the server is away"
    end
    expect(errors).to eq [nil, { class: "IOError", message: "the server is away" }]
  end
end
