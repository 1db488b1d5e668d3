# frozen_string_literal: true

# Squares the product of its parents' results, or the input.
class Square < TaskerCore::StepHandler
  def call(context)
    parents = context.config.fetch("parents", [])
    factors = parents.map { |name| context.results[name]["n"] }
    { n: (parents.empty? ? context.input["n"] : factors.inject(:*))**2 }
  end
end
