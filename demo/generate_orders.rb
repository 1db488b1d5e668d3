# frozen_string_literal: true

# Writes orders.csv: 600 orders of one to five lines, the same in every run.
#
#   ruby demo/generate_orders.rb > demo/orders.csv
#
# payment: the response of the card company (ok; declined: always; rate_limited: at the first attempt).
# stock:   the response of the warehouse (ok; late: fails at the first attempt; gone: always fails).

require "csv"

ORDERS = 600
CATALOGUE = {
  "TEA-ASSAM" => 890, "TEA-SENCHA" => 1_250, "MUG-BLUE" => 1_490, "MUG-WHITE" => 1_290, "KETTLE-1L" => 4_900,
  "FILTER-100" => 350, "SCALE-MINI" => 2_750, "TIN-SMALL" => 640, "WHISK-BAMBOO" => 1_980, "GIFT-WRAP" => 250
}.freeze

random = Random.new(20_261_101)
puts CSV.generate_line(%w[order_id customer payment stock sku quantity unit_cents])

1.upto(ORDERS) do |number|
  payment = case number % 53
            when 0...6 then "declined"
            when 6...14 then "rate_limited"
            else "ok"
            end
  stock = { 3 => "gone", 20 => "late", 21 => "late" }.fetch(number % 47, "ok")
  customer = format("customer-%03d", random.rand(240))
  CATALOGUE.keys.sample(random.rand(1..5), random: random).each do |sku|
    puts CSV.generate_line([10_000 + number, customer, payment, stock, sku, random.rand(1..4), CATALOGUE.fetch(sku)])
  end
end
