# frozen_string_literal: true

# Prints measurements next to their budgets, and remembers whether all are within them.
class Table
  def initialize
    @within_budget = true
  end

  def within_budget? = @within_budget

  def head = puts("#{' ' * 58} #{'measured'.rjust(12)} #{'budget'.rjust(12)}")

  def row(title, value, budget = nil, least: false)
    met = budget && (least ? value >= budget : value <= budget)
    bound = "#{least ? '≥' : '≤'} #{number(budget)}" if budget
    puts format("%-58s %12s %12s %s", title, number(value), bound, mark(met)).rstrip
  end

  # Remembers a missed budget.
  # @return [String, nil] a tick or a cross; nil without a budget
  def mark(met)
    @within_budget &&= met != false
    { true => "✔", false => "✘" }[met]
  end

  def number(value)
    return value if value.is_a?(String)

    value >= 100 ? value.round.to_s.gsub(/\B(?=(\d{3})+\z)/, ",") : format("%.3g", value)
  end
end
