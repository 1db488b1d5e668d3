# frozen_string_literal: true

# Writes a line in the database for each event, in the transaction that records its delivery. Loaded by processes with
# DUMMY_LEDGER: with the fifth line, the process writes this file and kills itself, once.
class Ledger < TaskerCore::Subscriber
  # A line of the ledger.
  class Line < ActiveRecord::Base
    self.table_name = "ledger_lines"
  end

  class << self
    def create_table
      Line.connection.execute("create table ledger_lines (id bigserial primary key, committed_together " \
                              "timestamptz default " \
                              "now(), name text, event_id uuid, task_id bigint, process integer, facts jsonb)")
    end

    # What a test does after each of the next lines.
    # @return [Queue<#call>]
    def faults = @faults ||= Queue.new
  end

  durable
  subscribe_to "shop.packed", "task.*", "step.*", workflow: "announcing"

  def call(event)
    Line.create!(name: event.name, event_id: event.id, task_id: event[:task_id], process: Process.pid,
                 facts: event.to_h)
    self.class.faults.pop.call(event) unless self.class.faults.empty?
    die(ENV.fetch("DUMMY_LEDGER")) if ENV.key?("DUMMY_LEDGER") && Line.count == 5
  end

  private

  def die(mark)
    return if File.exist?(mark)

    File.write(mark, Process.pid)
    Process.kill("KILL", Process.pid)
  end
end
