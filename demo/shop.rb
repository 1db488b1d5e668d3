# frozen_string_literal: true

require "csv"

# The shop's own tables and the external systems that it uses.

class Order < ActiveRecord::Base
  has_many :lines, class_name: "OrderLine"

  def total_cents = lines.sum(Arel.sql("quantity * unit_cents"))
end

class OrderLine < ActiveRecord::Base
  belongs_to :order
end

class Charge < ActiveRecord::Base
end

class Shipment < ActiveRecord::Base
end

# Creates the tables and imports the orders; each order and its task are created in one transaction.
module ShopData
  module_function

  def create_tables
    ActiveRecord::Schema.verbose = false
    ActiveRecord::Schema.define do
      create_table(:orders) { |t| t.string :customer, :payment, :stock, null: false }
      create_table(:order_lines) do |t|
        t.references :order, null: false
        t.string :sku, null: false
        t.integer :quantity, :unit_cents, null: false
      end
      create_table(:charges) do |t|
        t.bigint :order_id, :cents, null: false
        t.string :idempotency_token, null: false, index: { unique: true }
      end
      create_table(:shipments) { |t| t.bigint :order_id, null: false, index: { unique: true } }
    end
  end

  def orders(path) = CSV.read(path, headers: true).group_by { |row| row["order_id"].to_i }

  def import(path)
    orders(path).each_slice(50) do |slice|
      Order.transaction do
        slice.each { |id, rows| create_order(id, rows) }
        OrderFulfillment.create_all!(slice.map { |id, _| { order_id: id } })
      end
    end
  end

  def create_order(id, rows)
    Order.create!(id: id, **rows.first.to_h.slice("customer", "payment", "stock").symbolize_keys)
    OrderLine.insert_all!(rows.map { |row| row.to_h.slice("sku", "quantity", "unit_cents").merge("order_id" => id) })
  end
end

# The card company: charges an idempotency token once, even for repeated requests.
module CardCompany
  class Declined < StandardError; end
  class TooManyRequests < StandardError; end

  RETRY_AFTER = 2

  module_function

  def charge(order, cents:, token:, attempt:)
    sleep 0.02 # a network round trip
    raise Declined, "card of #{order.customer} was declined" if order.payment == "declined"
    raise TooManyRequests, "too many requests" if order.payment == "rate_limited" && attempt == 1

    Charge.insert({ order_id: order.id, cents: cents, idempotency_token: token }, unique_by: :idempotency_token)
  end
end
