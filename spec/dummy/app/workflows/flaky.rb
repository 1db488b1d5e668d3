# frozen_string_literal: true

# Fails as many times as the input says, then returns the attempt that succeeded.
class Flaky < TaskerCore::Workflow
  input optional: { failures: :integer, kind: :string, after: :number }

  step :before
  step :trial, depends_on: :before, retry: { max_attempts: 3, backoff: :exponential, base: 60, factor: 2, jitter: 0 }
  step :after, depends_on: :trial

  def before(_context) = {}

  def trial(context)
    return { attempt: context.attempt } if context.attempt > context.input.fetch("failures", 0)

    case context.input["kind"]
    when "permanent" then raise TaskerCore::PermanentError.new("declined", code: "card_declined")
    when "later" then raise TaskerCore::RetryableError.new("too many requests", retry_after: context.input["after"])
    else raise "failure #{context.attempt}"
    end
  end

  def after(context) = { seen: context.results["trial"]["attempt"], far: context.results["before"] }
end
