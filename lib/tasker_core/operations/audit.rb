# frozen_string_literal: true

module TaskerCore
  module Operations
    # Checks tasks against the kernel's invariants (`db/functions/maintenance/audit.sql`), in batches, while workers
    # run. For operators: workers run the same checks continuously and report the number of broken tasks in their
    # health.
    #
    # @api private
    class Audit
      include Enumerable

      # A broken invariant of a task, or of one of its steps; without a task, a counter of tasks that is wrong. If the
      # database cannot read the task, the rule is "unreadable".
      Finding = Struct.new(:task_id, :position, :rule, :explanation, keyword_init: true) do
        def to_s = "#{"task #{task_id}: " if task_id}#{explanation} (#{rule})"
      end

      COUNTER = %w[namespace workflow state counted actual].freeze
      private_constant :COUNTER

      # @param limit [Integer] tasks per statement
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
        wrong_counters(correct: false).each(&block)
      end

      # Compares the counters of tasks by state, which the metrics read, with the tasks.
      #
      # @param correct [Boolean] whether to correct them
      # @return [Array<Finding>] the counters that are, or were, wrong
      def wrong_counters(correct:)
        Postgres::Functions.run(:recount_tasks, !correct).map do |difference|
          namespace, workflow, state, counted, actual = difference.values_at(*COUNTER)
          text = "#{counted} tasks of #{namespace}/#{workflow} are counted as #{state}, but #{actual} exist"
          Finding.new(rule: "counters", explanation: text)
        end
      rescue ActiveRecord::StatementInvalid, InputError => e
        raise unless Postgres::Functions.of_rows?(e)

        text = "the counters of tasks cannot be checked: #{Postgres::Functions.message_of(e)}"
        [Finding.new(rule: "unreadable", explanation: text)]
      end

      # @return [Array<Finding>] of the first batch only: the oldest tasks, and live rows without a task
      def first_batch = fetch(0).first

      # Repairs the counters and live rows of a task. It does not change the recorded history.
      #
      # @param task_id [Integer]
      # @param reason [String] recorded with the task
      # @param by [String] the actor, recorded with the task
      # @return [Array<Finding>] the findings that remain
      # @raise [InputError] if reason or actor is blank
      def repair(task_id, reason:, by:)
        repaired = Postgres::Functions.run(:repair_task, task_id, reason, by)
        Worker::Wakeup.send_for(repaired.fetch("ready_queues"))
        check(task_id - 1, 1).first.select { |finding| finding.task_id == task_id }
      end

      private

      # Checks fewer tasks per statement if the statement is too large. A task that cannot be read is a finding.
      # @return [Array(Array<Finding>, Integer)] findings, and the task after which the next statement begins, or nil
      def fetch(after)
        @limit.run { |limit| check(after, limit) }
      rescue Postgres::RowLimit::RowError => e
        task = Postgres::Functions.run(:next_task, after, nil, nil) or raise
        explanation = "the task cannot be checked: #{e.message}"
        [[Finding.new(task_id: task.fetch("id"), rule: "unreadable", explanation: explanation)], task.fetch("id")]
      end

      def check(after, limit)
        response = Postgres::Functions.run(:audit, after, limit)
        [response.fetch("findings").map { |facts| Finding.new(**facts.symbolize_keys) }, response.fetch("after")]
      end
    end
  end
end
