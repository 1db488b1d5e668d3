# frozen_string_literal: true

# Its second step fails until a test sets `repaired`; its third returns the result that it read of the second.
class Repairable < TaskerCore::Workflow
  class << self
    attr_accessor :repaired
  end

  step :first
  step :second, depends_on: :first, retry: { max_attempts: 2, backoff: :none }
  step :third, depends_on: :second

  def first(_context) = {}

  def second(context) = self.class.repaired ? { by: "handler", attempt: context.attempt } : raise("broken")

  def third(context) = { saw: context.results["second"] }
end
