# frozen_string_literal: true

# From a paid basket to a parcel:
#
#                  ┌─▶ reserve_stock ─┐
#   validate_order ┤                  ├─▶ ship
#                  └─▶ charge_card ───┘

class ChargeCard < TaskerCore::StepHandler
  def call(context)
    order = Order.find(context.input["order_id"])
    cents = context.results["validate_order"]["total_cents"]
    CardCompany.charge(order, cents: cents, token: context.idempotency_token, attempt: context.attempt)
    { cents: cents }
  rescue CardCompany::Declined => e
    raise TaskerCore::PermanentError.new(e.message, code: "card_declined")
  rescue CardCompany::TooManyRequests => e
    raise TaskerCore::RetryableError.new(e.message, retry_after: CardCompany::RETRY_AFTER)
  end
end

class OrderFulfillment < TaskerCore::Workflow
  namespace "shop"
  version "1.0.0"
  description "From a paid basket to a parcel"
  dispatch :active_job if ENV.key?("QUEUE_ADAPTER") # bin/demo --dispatch
  input required: { order_id: :integer }

  step :validate_order
  step :reserve_stock, depends_on: :validate_order, retry: { max_attempts: 5, backoff: :exponential, base: 0.5 }
  step :charge_card,   depends_on: :validate_order, handler: ChargeCard, timeout: 30
  step :ship,          depends_on: %i[reserve_stock charge_card]

  def validate_order(context)
    order = Order.includes(:lines).find(context.input["order_id"])
    raise TaskerCore::PermanentError.new("an order needs a line", code: "empty_order") if order.lines.empty?

    { total_cents: order.total_cents, lines: order.lines.size }
  end

  def reserve_stock(context)
    order = Order.find(context.input["order_id"])
    sleep 0.01 # the warehouse searches its shelves
    raise TaskerCore::PermanentError.new("sold out", code: "out_of_stock") if order.stock == "gone"
    raise "delivery is late" if order.stock == "late" && context.attempt == 1

    { parcels: (context.results["validate_order"]["lines"] / 3.0).ceil }
  end

  def ship(context)
    sleep 0.005 # the label is printed
    Shipment.insert({ order_id: context.input["order_id"] }, unique_by: :order_id)
    { parcels: context.results["reserve_stock"]["parcels"], paid: context.results["charge_card"]["cents"] }
  end
end
