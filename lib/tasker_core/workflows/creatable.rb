# frozen_string_literal: true

module TaskerCore
  module Workflows
    # How tasks are created, whatever a workflow is declared by. Needs `compiled`.
    module Creatable
      # Creates a task on the application's own connection, inside its transaction if there is one: workers see it
      # after the commit, or never.
      #
      # @param input [Hash] the task's input
      # @return [Task]
      # @raise [InputError] when the input does not fit; nothing is written
      # @raise [IdempotencyConflictError] when a task with another input has the idempotency key; nothing is written
      # @raise [WorkflowConflictError] when the version is registered with another content
      # @raise [FunctionsMissingError] when the database is not prepared
      def create!(**input) = set.create!(**input)

      # Creates a task for each input with one statement.
      #
      # @param inputs [Array<Hash>]
      # @return [Array<Task>] in the same order
      def create_all!(inputs) = set.create_all!(inputs)

      # @param options [Hash]
      # @option options [String, nil] :idempotency_key a second task of this workflow with the same key and input is not
      #   created: the first one is answered, with {Task#existing?} true
      # @option options [Integer] :priority the smallest number runs first
      # @option options [Time, Date, String, nil] :wait_until no step starts before. A date, or a text without an offset, is read
      #   in the application's time zone (`Time.zone`): a date begins at midnight there
      # @option options [String, nil] :correlation_id a UUID that follows the task; by default
      #   {TaskerCore.correlation_id} where the task is created, or else a new one
      # @option options [Array<String>] :tags words by which the task is found again: `tasker list --tag`
      # @return [TaskCreation] the options, on which `create!` or `create_all!` is called
      def set(**options) = TaskCreation.new(self, **options)
    end
  end
end
