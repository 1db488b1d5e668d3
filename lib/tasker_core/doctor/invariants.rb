# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether the first tasks, and the live rows, are as the kernel leaves them.
    #
    # @api private
    class Invariants < Check
      SHOWN = 5
      private_constant :SHOWN

      private

      def issues
        broken = Operations::Audit.new(limit: limit).first_batch
        listed = broken.first(SHOWN).map { |finding| error(finding.to_s, repair) }
        listed << error("#{counted(broken.size - SHOWN, 'further finding')} of the kind", repair) if broken.size > SHOWN
        listed
      end

      def limit = @configuration[:maintenance, :audit_limit]

      def repair = "`tasker audit` looks at every task, and `tasker audit --repair` puts right what can be"

      def ok_message = "the oldest tasks (#{limit} at most) break no invariant; `tasker audit` looks at all"
    end
  end
end
