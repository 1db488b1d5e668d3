# frozen_string_literal: true

module Chaos
  # A durable subscriber that writes what it is told into the database, and fails now and then.
  class Ledger < TaskerCore::Subscriber
    TABLE = "create table chaos_told (number bigserial primary key, event uuid, name text, task uuid, step text)"
    INSERT = "insert into chaos_told (event, name, task, step) values ($1, $2, $3, $4)"

    durable
    subscribe_to "task.*", "step.*", namespace: "chaos"

    def call(event)
      ActiveRecord::Base.connection.exec_query(INSERT, "chaos", [event.id, event.name, event[:task_uuid], event[:step]])
      raise "a subscriber's own failure" if rand < 0.002
    end
  end
end
