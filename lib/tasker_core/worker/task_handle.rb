# frozen_string_literal: true

module TaskerCore
  class Worker
    # An operator's actions on a task over the worker's own connections: returned by {Worker#task}. They are those of
    # {Task}, but commit at once, outside the caller's transaction, and need no connection of Active Record.
    class TaskHandle
      # @api private
      # @param native [Native::Task]
      def initialize(native)
        @native = native
      end

      # @param position [Integer] in the workflow, from 0
      # @return [StepHandle]
      def step(position) = StepHandle.new(@native.step(position))

      # See {Task#cancel!}.
      # @param reason [String] recorded with the task
      # @param by [#to_s] the actor, recorded with the task
      # @return [Hash{Symbol => Object}] `state` after the action, and `ready_queues`: queues with new ready steps
      # @raise [TransitionError] if the state forbids it
      # @raise [TaskNotFoundError] if there is no such task
      # @raise [InputError] if reason or actor is blank
      # @raise [DatabaseError] if the database cannot be used
      # @raise [StoppedError] if the worker has stopped
      def cancel!(reason:, by:) = @native.cancel(reason, by&.to_s)

      # See {Task#retry!}. Parameters, result and errors: {#cancel!}.
      def retry!(reason:, by:) = @native.retry(reason, by&.to_s)

      # See {Task#resolve!}. Parameters, result and errors: {#cancel!}.
      def resolve!(reason:, by:) = @native.resolve(reason, by&.to_s)
    end
  end
end
