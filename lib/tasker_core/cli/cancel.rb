# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker cancel`: ends a task; a handler that still runs can finish nothing any more.
    #
    # @api private
    class Cancel < ActionCommand
      ARGUMENTS = %w[TASK].freeze

      private

      def change(task, _step) = task.cancel_with_reason!(reason, by: by)
    end
  end
end
