# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker version`: prints the gem's version.
    #
    # @api private
    class Version < Command
      private

      def perform
        @json ? print_json(version: VERSION) : @out.puts(VERSION)
        0
      end
    end
  end
end
