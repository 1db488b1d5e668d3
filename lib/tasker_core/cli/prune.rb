# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker prune`: removes tasks that ended long ago, at once and whatever `retention.enabled` says.
    class Prune
      include Application

      def initialize(out:, **)
        @out = out
        @overrides = {}
      end

      def run(arguments)
        rest = parser.parse(arguments)
        raise UsageError, "prune: #{rest.first}: unexpected argument" if rest.any?

        load_application
        verify_database
        keep = TaskerCore.config.with("retention" => @overrides)[:retention, :keep]
        tell(Retention.new(keep: keep).run(dry_run: @dry_run || false))
        0
      end

      private

      def parser
        OptionParser.new("Usage: tasker prune [options]") do |options|
          options.on("--keep TIME", "how long a task is kept after its end (default: retention.keep)") { @overrides["keep"] = _1 }
          options.on("--dry-run", "only count what would be removed") { @dry_run = true }
          options.on("--json", "print one JSON object") { @json = true }
          application_option(options)
        end
      end

      def tell(removed)
        return @out.puts JSON.generate(removed: removed, dry_run: @dry_run || false) if @json

        @out.puts @dry_run ? "would be removed:" : "removed:"
        removed.each { |table, rows| @out.puts format("  %-18s %10d", table, rows) }
      end
    end
  end
end
