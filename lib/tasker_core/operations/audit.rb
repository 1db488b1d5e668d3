# frozen_string_literal: true

module TaskerCore
  module Operations
    # Holds tasks against the invariants of the kernel (`db/functions/maintenance/audit.sql`), in batches, while workers go on.
    # Workers do the same all the time and tell the number of broken tasks with their health; this is for operators.
    #
    # @api private
    class Audit
      include Enumerable

      # What is wrong with a task, or with one of its steps. The rule of a task that the database cannot read is "unreadable".
      Finding = Struct.new(:task_id, :position, :rule, :explanation, keyword_init: true) do
        def to_s = "task #{task_id}: #{explanation} (#{rule})"
      end

      # @param limit [Integer] tasks by one statement
      def initialize(limit: TaskerCore.config[:maintenance, :audit_limit])
        @limit = Postgres::RowLimit.new(limit)
      end

      # @yieldparam finding [Finding]
      def each(&block)
        return enum_for unless block

        after = 0
        while after
          findings, after = fetch(after)
          findings.each(&block)
        end
      end

      # @return [Array<Finding>] of the first batch only: the oldest tasks, and live rows that belong to none
      def first_batch = fetch(0).first

      # Puts a task right as far as it can be: counters and live rows; what history tells stays.
      #
      # @param by [String] who does it, and
      # @param reason [String] why: both are kept with the task
      # @return [Array<Finding>] what is still wrong
      # @raise [InputError] when one of them is blank
      def repair(task_id, reason:, by:)
        repaired = call(:repair_task, task_id, reason, by)
        Worker::Wakeup.send_for(repaired.fetch("ready_queues"))
        check(task_id - 1, 1).first.select { |finding| finding.task_id == task_id }
      end

      private

      # Fewer tasks by one statement where they are too much; a task that cannot be read is a finding of its own.
      # @return [Array(Array<Finding>, Integer)] and after which task the next statement begins, or nil
      def fetch(after)
        @limit.run { |limit| check(after, limit) }
      rescue Postgres::RowLimit::RowError => e
        task = call(:next_task, after, nil, nil) or raise
        explanation = "the task cannot be checked: #{e.message}"
        [[Finding.new(task_id: task.fetch("id"), rule: "unreadable", explanation: explanation)], task.fetch("id")]
      end

      def check(after, limit)
        response = call(:audit, after, limit)
        [response.fetch("findings").map { |facts| Finding.new(**facts.symbolize_keys) }, response.fetch("after")]
      end

      def call(...) = ApplicationRecord.on_connection { |connection| Postgres::Functions.call(connection, ...) }
    end
  end
end
