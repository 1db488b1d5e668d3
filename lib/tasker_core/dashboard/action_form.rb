# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # What somebody can do to a task, or to a step of it, by hand: what it is called, what comes of it, in which states it is
    # offered, and how it is done. Whether a state allows it the functions decide.
    #
    # @api private
    class ActionForm
      # @return [Symbol] the action, as {HTTP::Access#authorize_with} is asked for it
      attr_reader :name
      # @return [String] of its form and of its button
      attr_reader :title
      # @return [String] what it does
      attr_reader :effect

      # @param states [Array<String>] in which it is offered
      # @param result [Boolean] whether a result goes with it
      # @yieldparam record [Task, WorkflowStep]
      # @yieldparam reason [String]
      # @yieldparam by [String]
      # @yieldparam result [Hash, nil]
      def initialize(name, title, effect, states, result: false, &perform)
        @name = name
        @title = title
        @effect = effect
        @states = states
        @result = result
        @perform = perform
      end

      # @return [Boolean]
      def result? = @result

      # @param state [String] the task's, or the step's
      # @param failed [Integer] failed steps of the task
      def offered?(state, failed: 0) = @states.include?(state) && (name != :reset || failed.positive?)

      # @param record [Task, WorkflowStep]
      # @param result [String] JSON
      # @raise [TransitionError] when the state forbids it
      # @raise [InputError] when nobody says why, or the result is no object
      def perform(record, reason:, by:, result:)
        @perform.call(record, reason, by, (JsonField.object("result", result) if result?))
      end

      UNENDED = Task::STATES - Task::ENDED
      OPEN = %w[error pending ready waiting].freeze
      private_constant :UNENDED, :OPEN

      TASK = [
        new(:cancel, "Cancel the task",
            "Its steps that have not ended are cancelled. A handler that runs can finish nothing any more.",
            UNENDED) do |task, why, by|
          task.cancel_with_reason!(why, by: by)
        end,
        new(:reset, "Retry failed steps",
            "Every failed step has all its attempts again, and a task that had ended goes on.",
            [*UNENDED, "error"]) do |task, why, by|
          task.reset_attempts!(why, by: by)
        end,
        new(:resolve, "Mark the task as resolved",
            "It was dealt with elsewhere: it stays as it is, and counts as failed no more.",
            %w[error]) do |task, why, by|
          task.resolve!(why, by: by)
        end
      ].index_by(&:name).freeze

      STEP = [
        new(:retry, "Retry",
            "A step that waits is ready at once; one that has failed has all its attempts again.",
            %w[waiting error]) do |step, why, by|
          step.state == "waiting" ? step.retry_now!(why, by: by) : step.reset_attempts!(why, by: by)
        end,
        new(:resolve, "Mark as resolved",
            "It was dealt with elsewhere: the steps after it may run, and see no result of it.",
            OPEN) do |step, why, by|
          step.mark_resolved!(why, by: by)
        end,
        new(:complete, "Complete with a result",
            "The steps after it may run, and see the result as if its handler had answered it.",
            OPEN, result: true) do |step, why, by, given|
          step.complete!(given, reason: why, by: by)
        end,
        new(:release, "Take from its worker",
            "It is ready for all workers, and has spent no attempt. The handler that runs can finish nothing any more.",
            %w[in_progress]) { |step, why, by| step.release!(why, by: by) },
        new(:update_result, "Replace the result",
            "Steps that start later see the result that you give.",
            %w[complete resolved_manually], result: true) do |step, why, by, given|
          step.update_result!(given, reason: why, by: by)
        end
      ].index_by(&:name).freeze
    end
  end
end
