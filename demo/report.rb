# frozen_string_literal: true

# The outcomes expected from the file, the actual outcomes, and their differences.
class Report
  Outcome = Struct.new(:orders, :cents)

  def initialize(path)
    @file = ShopData.orders(path)
  end

  # From the file alone.
  def expected = @expected ||= summed(@file.values.map { |lines| [end_state(lines.first), total(lines)] })

  # From the tasks alone.
  def actual
    @actual ||= summed(TaskerCore::Task.order(:id).map do |task|
      [outcome_of(task), task.results.dig("validate_order", "total_cents").to_i]
    end)
  end

  # The effects of the handlers outside tasker_core: expected and actual numbers.
  def effects
    { "parcels sent" => [expected.fetch("shipped").orders, Shipment.count],
      "cards charged" => [@file.count { |_, lines| lines.first["payment"] != "declined" }, Charge.count] }
  end

  def differences
    states = (expected.keys | actual.keys).reject { |state| expected[state] == actual[state] }
    states + effects.reject { |_, (expected, got)| expected == got }.keys
  end

  private

  def summed(rows)
    rows.group_by(&:first).transform_values { |group| Outcome.new(group.size, group.sum(&:last)) }
  end

  def total(lines) = lines.sum { |line| line["quantity"].to_i * line["unit_cents"].to_i }

  def end_state(line)
    declined = line["payment"] == "declined"
    gone = line["stock"] == "gone"
    return "declined and sold out" if declined && gone
    return "declined" if declined

    gone ? "sold out" : "shipped"
  end

  def outcome_of(task)
    return "shipped" if task.state == "complete"

    codes = task.steps.filter_map { |step| step.error&.fetch("code", nil) }
    return "declined and sold out" if (%w[card_declined out_of_stock] - codes).empty?

    { ["card_declined"] => "declined", ["out_of_stock"] => "sold out" }.fetch(codes, "#{task.state} #{codes.join(' ')}")
  end
end
