# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker resolve`: a step that failed, or has not begun, is dealt with, and may be given a result; so is a task that ended
    # with an error.
    #
    # @api private
    class Resolve < ActionCommand
      ARGUMENTS = %w[TASK [STEP]].freeze

      private

      def options(parser)
        parser.on("--result JSON", "complete the step with this result, an object that its children see") do |text|
          @result = object("--result", text)
        end
        super
      end

      def verify(values)
        super
        raise UsageError, "resolve: --result is of a step: #{self.class.usage}" if @result && values.size < 2
      end

      def change(task, step)
        return task.resolve!(reason, by: by) unless step

        @result ? step.complete!(@result, reason: reason, by: by) : step.mark_resolved!(reason, by: by)
      end
    end
  end
end
