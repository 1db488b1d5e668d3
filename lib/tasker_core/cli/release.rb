# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker release`: takes a step from the process that runs it, without spending an attempt.
    #
    # @api private
    class Release < ActionCommand
      ARGUMENTS = %w[TASK STEP].freeze

      private

      def change(_task, step) = step.release!(reason, by: by)
    end
  end
end
