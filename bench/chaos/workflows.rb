# frozen_string_literal: true

require_relative "effects"

module Chaos
  # The handler of all steps: computes a number that can be checked afterwards, or fails in one of several ways.
  class Work < TaskerCore::StepHandler
    LARGE = "x" * 50_000

    def call(context)
      Effects.record("start", context)
      chance = Random.new(context.token)
      misbehave(context, chance)
      sleep chance.rand * context.config.fetch("seconds", 0.01)
      value = Chaos.value(context.input.fetch("n"), context.dependencies.map { |name| context.results[name] })
      Effects.record("end", context, value)
      { value: value, token: context.token, task: context.task_uuid, step: context.step_name,
        filler: (LARGE if context.config["kind"] == "large") }.compact
    end

    private

    def misbehave(context, chance)
      case context.config["kind"]
      when "flaky" then raise "flaky" if chance.rand < 0.3
      when "limited"
        raise TaskerCore::RetryableError.new("too many requests", retry_after: 0.3) if chance.rand < 0.3
      when "doomed" then raise TaskerCore::PermanentError.new("declined", code: "declined") if chance.rand < 0.1
      when "hanging" then sleep(60) if chance.rand < 0.02
      when "slow" then sleep(3) if chance.rand < 0.1
      end
    end
  end

  RETRY = { max_attempts: 4, backoff: :exponential, base: 0.1, cap: 1 }.freeze

  # Two branches and a join.
  class Diamond < TaskerCore::Workflow
    namespace "chaos"

    step :a, handler: Work, retry: RETRY
    step :b, depends_on: :a, handler: Work, retry: RETRY, queue: "other"
    step :c, depends_on: :a, handler: Work, retry: RETRY, config: { kind: "large" }
    step :d, depends_on: %i[b c], handler: Work, retry: RETRY
  end

  # One step after another, some of them slow.
  class Line < TaskerCore::Workflow
    namespace "chaos"

    step :first, handler: Work, retry: RETRY, config: { seconds: 0.5 }
    step :second, depends_on: :first, handler: Work, retry: RETRY, config: { kind: "hanging" }, timeout: 2
    step :third, depends_on: :second, handler: Work, retry: RETRY, queue: "other", config: { kind: "slow" }
    step :fourth, depends_on: :third, handler: Work, retry: RETRY
  end

  # One step, many, one.
  class Fan < TaskerCore::Workflow
    namespace "chaos"

    LEAVES = Array.new(12) { |number| "leaf_#{number}" }.freeze

    step :root, handler: Work, retry: RETRY
    LEAVES.each do |leaf|
      step leaf, depends_on: :root, handler: Work, retry: RETRY, queue: leaf.end_with?("1") ? "other" : "default"
    end
    step :join, depends_on: LEAVES, handler: Work, retry: RETRY, priority: -1
  end

  # Steps that fail: sometimes, when rate-limited, permanently.
  class Mess < TaskerCore::Workflow
    namespace "chaos"

    step :calm, handler: Work, retry: RETRY
    step :flaky, depends_on: :calm, handler: Work, retry: RETRY, config: { kind: "flaky" }
    step :limited, depends_on: :calm, handler: Work, retry: RETRY, config: { kind: "limited" }
    step :doomed, depends_on: :calm, handler: Work, retry: RETRY, config: { kind: "doomed" }
    step :last, depends_on: %i[flaky limited doomed], handler: Work, retry: RETRY
  end

  WORKFLOWS = [Diamond, Line, Fan, Mess].freeze

  # With --dispatch, the steps of all workflows but one are jobs.
  def self.dispatch_steps = (WORKFLOWS - [Diamond]).each { |workflow| workflow.dispatch(:active_job) }
  dispatch_steps if ENV.key?("QUEUE_ADAPTER")
end
