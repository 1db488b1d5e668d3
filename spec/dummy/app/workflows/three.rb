# frozen_string_literal: true

# Three independent steps: one succeeds, one fails permanently, one needs a second attempt.
class Three < TaskerCore::Workflow
  step :well
  step :hopeless
  step :patient, retry: { max_attempts: 2, backoff: :fixed, base: 60, jitter: 0 }

  def well(_context) = { well: true }

  def hopeless(_context) = raise(TaskerCore::PermanentError.new("no such article", code: "unknown_article"))

  def patient(context) = context.attempt > 1 ? { patient: true } : raise("not yet")
end
