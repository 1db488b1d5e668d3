# frozen_string_literal: true

# Writes a line in the database for each event, in the transaction that notes its delivery. Loaded by those who name
# DUMMY_LEDGER: a file that is written as the fifth line is, after which the process is killed; once.
class Ledger < TaskerCore::Subscriber
  # A line of it.
  class Line < ActiveRecord::Base
    self.table_name = "ledger_lines"
  end

  class << self
    def create_table
      Line.connection.execute("create table ledger_lines (id bigserial primary key, committed_together timestamptz default " \
                              "now(), name text, event_id uuid, task_id bigint, process integer, facts jsonb)")
    end

    # What is done after the next lines, by tests.
    # @return [Queue<#call>]
    def faults = @faults ||= Queue.new
  end

  durable
  subscribe_to "shop.packed", "task.*", "step.*", workflow: "announcing"

  def call(event)
    Line.create!(name: event.name, event_id: event.id, task_id: event[:task_id], process: Process.pid, facts: event.to_h)
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
