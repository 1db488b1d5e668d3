# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether the oldest tasks and the live rows keep the invariants.
    #
    # @api private
    class Invariants < Check
      SHOWN = 5
      private_constant :SHOWN

      private

      def issues
        broken = Operations::Audit.new(limit: limit).first_batch
        listed = broken.first(SHOWN).map { |finding| error(finding.to_s, repair) }
        listed << error(counted(broken.size - SHOWN, "more finding"), repair) if broken.size > SHOWN
        listed
      end

      def limit = @configuration[:maintenance, :audit_limit]

      def repair = "`tasker audit` checks every task, and `tasker audit --repair` repairs what it can"

      def ok_message = "the oldest tasks (up to #{limit}) break no invariant; `tasker audit` checks all"
    end
  end
end
