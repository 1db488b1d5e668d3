# frozen_string_literal: true

module Chaos
  # A durable subscriber that writes each event to the database, and sometimes fails.
  class Ledger < TaskerCore::Subscriber
    TABLE = "create table chaos_deliveries (number bigserial primary key, event uuid, name text, task uuid, step text)"
    INSERT = "insert into chaos_deliveries (event, name, task, step) values ($1, $2, $3, $4)"

    durable
    subscribe_to "task.*", "step.*", namespace: "chaos"

    def call(event)
      ActiveRecord::Base.connection.exec_query(INSERT, "chaos", [event.id, event.name, event[:task_uuid], event[:step]])
      raise "a failure of the subscriber" if rand < 0.002
    end
  end
end
