# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker audit`: finds tasks that break an invariant, and repairs them with --repair. Exits with 1 if findings
    # remain.
    #
    # @api private
    class Audit < Command
      include Application

      def self.outlasts_reader? = true

      private

      def perform
        audit = TaskerCore::Operations::Audit.new
        findings = audit.map { |finding| finding.tap { @out.puts Support::VisibleText.line(finding) unless @json } }
        left = @repair ? repair(audit, findings) : findings
        print_text(findings, left)
        left.empty? ? 0 : 1
      end

      def options(parser)
        parser.on("--repair", "repair what can be repaired") { @repair = true }
        super
      end

      def repair(audit, findings)
        left = findings.filter_map(&:task_id).uniq.flat_map { |task| repair_task(audit, task) }
        audit.wrong_counters(correct: true) # after the tasks, whose repairs are counted
        left
      end

      # If the database cannot repair a task, the others are still repaired.
      def repair_task(audit, task)
        audit.repair(task, reason: "found by an audit", by: operator)
      rescue ActiveRecord::StatementInvalid, InputError => e
        raise unless Postgres::Functions.of_rows?(e)

        explanation = "the repair failed: #{Postgres::Functions.message_of(e)}"
        [TaskerCore::Operations::Audit::Finding.new(task_id: task, rule: "unreadable", explanation: explanation)]
      end

      def print_text(findings, left)
        return print_json(findings: findings.map(&:to_h), repaired: @repair || false, left: left.map(&:to_h)) if @json

        left.each { |finding| @out.puts Support::VisibleText.line("not repaired: #{finding}") } if @repair
        @out.puts "tasks that break an invariant: #{tasks(findings)}#{"; after the repair: #{tasks(left)}" if @repair}"
      end

      def tasks(findings) = findings.filter_map(&:task_id).uniq.size
    end
  end
end
