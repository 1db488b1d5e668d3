# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker doctor`: checks the installation. Exits with 1 if a check finds an error.
    #
    # @api private
    class Doctor < Command
      include Application

      private

      # An unreachable database is a finding.
      def prepare = load_application

      def perform
        doctor = TaskerCore::Doctor.new
        @json ? print_json(findings: doctor.findings.map(&:to_h)) : print_text(doctor.findings)
        doctor.ok? ? 0 : REJECTED
      end

      def print_text(findings)
        width = findings.map { |finding| finding.check.size }.max.to_i
        findings.each do |finding|
          severity = terminal.paint_state(finding.severity, finding.severity.ljust("warning".size))
          @out.puts "#{severity}  #{finding.check.ljust(width)}  #{indented(finding.explanation, width)}"
          @out.puts "#{' ' * (width + 11)}→ #{indented(for_shard(finding.remedy), width)}" if finding.remedy
        end
        errors, warnings = %w[error warning].map { |severity| findings.map(&:severity).count(severity) }
        @out.puts "",
                  "#{counted(findings.size, 'finding')}: #{counted(errors, 'error')}, #{counted(warnings, 'warning')}"
      end

      # Indents further lines of a text, so that they do not look like findings.
      def indented(text, width) = Support::VisibleText.lines(text).gsub("\n", "\n#{' ' * (width + 11)}")
    end
  end
end
