# frozen_string_literal: true

module TaskerCore
  module Workflows
    # Creates tasks of a workflow: in {Workflow} as class methods, in {YamlFile} as methods of the object.
    module Creatable
      # Creates a task on the application's own connection, inside its transaction if one is open: workers see the task
      # after the commit.
      #
      # @param input [Hash] the task's input
      # @return [Task]
      # @raise [InputError] when the input violates the schema or the limits, or an option is invalid
      # @raise [IdempotencyConflictError] when a task with another input has the idempotency key
      # @raise [WorkflowError] when the workflow cannot be compiled
      # @raise [WorkflowConflictError] when the version is registered with another content
      # @raise [FunctionsMissingError] when the database is not prepared
      # @raise [DatabaseError] when the database cannot be used
      def create!(**input) = set.create!(**input)

      # Creates a task for each input, with one statement. Errors: see {#create!}; then no task is created.
      #
      # @param inputs [Array<Hash>]
      # @return [Array<Task>] in the same order
      def create_all!(inputs) = set.create_all!(inputs)

      # Sets options of the tasks to create.
      # @example
      #   OrderFulfillment.set(priority: 1, tags: ["vip"]).create!(order_id: 42)
      # @param options [Hash]
      # @option options [String, nil] :idempotency_key up to 1000 bytes: a second task of this workflow with the same
      #   key and input is not created; the first one is returned, with {Task#existing?} true
      # @option options [Integer] :priority from -32768 to 32767; the smallest runs first
      # @option options [Time, Date, String, nil] :wait_until the earliest start of its steps. A date, or a text without
      #   an offset, is read in the application's time zone (`Time.zone`); a date is its midnight
      # @option options [String, nil] :correlation_id a UUID that follows the task; by default
      #   {TaskerCore.correlation_id}, or a new one
      # @option options [Array<String>] :tags labels to find the task by: `tasker list --tag`
      # @return [TaskCreation] call `create!` or `create_all!` on it
      def set(**options) = TaskCreation.new(self, **options)
    end
  end
end
