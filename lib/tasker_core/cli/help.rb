# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker help`: lists the commands; `tasker help COMMAND`: prints the options of one.
    #
    # @api private
    class Help < Command
      ARGUMENTS = %w[[COMMAND]].freeze

      private

      def options(parser); end

      def perform(name = nil)
        return CLI.command(name).new(out: @out, err: @err).run(["--help"]) if name

        @out.puts "Usage: tasker COMMAND [options]   (tasker help COMMAND prints its options)", ""
        CLI.commands.each { |command, (summary, _)| @out.puts format("  %-13s %s", command, summary) }
        0
      end
    end
  end
end
