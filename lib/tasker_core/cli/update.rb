# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker update`: replaces the result of a step that is done.
    #
    # @api private
    class Update < ActionCommand
      ARGUMENTS = %w[TASK STEP].freeze

      private

      def options(parser)
        parser.on("--result JSON", "the result, an object; must be there") { @result = object("--result", _1) }
        super
      end

      def verify(values)
        super
        raise UsageError, "update: --result is missing: --result JSON" unless @result
      end

      def change(_task, step)
        step.update_result!(@result, reason: reason, by: by)
        "#{step.name} has another result: steps after it that start later see it"
      end
    end
  end
end
