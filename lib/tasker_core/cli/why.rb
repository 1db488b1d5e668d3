# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker why`: explains what a task waits for, or why it ended, and names the command that helps.
    #
    # @api private
    class Why < Command
      include Application

      ARGUMENTS = %w[TASK].freeze

      private

      def perform(name)
        diagnosis = Diagnosis.new(Task.lookup(name))
        @json ? print_json(diagnosis.to_h) : print_text(diagnosis)
        0
      end

      def print_text(diagnosis)
        @out.puts terminal.paint(Support::VisibleText.line(diagnosis.summary), :bold)
        diagnosis.reasons.each do |reason|
          next if reason.remedy.nil? && diagnosis.summary.end_with?(reason.explanation) # it says no more

          @out.puts "", Support::VisibleText.line(reason.explanation)
          next unless reason.remedy

          @out.puts terminal.paint("  → #{Support::VisibleText.line(for_shard(reason.remedy))}", :cyan)
        end
      end
    end
  end
end
