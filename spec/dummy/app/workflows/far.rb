# frozen_string_literal: true

# The last step reads the result of a step that is not its parent, which takes another statement.
class Far < TaskerCore::Workflow
  step :first
  step :second, depends_on: :first
  step :last, depends_on: :second, retry: { max_attempts: 1 }

  def first(context) = { n: context.input.fetch("n") }
  def second(_context) = {}
  def last(context) = { n: context.results["first"].fetch("n") }
end
