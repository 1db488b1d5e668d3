# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker prune`: removes tasks that ended long ago now, even if `retention.enabled` is false.
    #
    # @api private
    class Prune < Command
      include Application

      def self.outlasts_reader? = true

      private

      def perform
        keep = TaskerCore.config.with("retention" => { "keep" => @keep }.compact)[:retention, :keep]
        retention = Operations::Retention.new(keep: keep)
        print_text(retention.run(dry_run: @dry_run || false))
        retention.skipped.each { |text| @err.puts Support::VisibleText.line(text) }
        retention.skipped.empty? ? 0 : 1
      end

      def options(parser)
        parser.on("--keep TIME", "how long a task is kept after its end (default: retention.keep)") { @keep = _1 }
        parser.on("--dry-run", "only count the rows that would be removed") { @dry_run = true }
        super
      end

      def print_text(removed)
        return print_json(removed: removed, dry_run: @dry_run || false) if @json

        @out.puts @dry_run ? "would be removed:" : "removed:"
        removed.each { |table, rows| @out.puts format("  %-18s %10d", table, rows) }
      end
    end
  end
end
