# frozen_string_literal: true

# Publishes a custom event between its steps; its last step is declined.
class Announcing < TaskerCore::Workflow
  event "shop.packed", durable: true

  step :pack
  step :pay, depends_on: :pack, retryable: false

  def pack(context)
    context.publish("shop.packed", parcels: 2)
    { parcels: 2 }
  end

  def pay(_context) = raise(TaskerCore::PermanentError.new("declined", code: "card_declined"))
end
