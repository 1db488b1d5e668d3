# frozen_string_literal: true

require "after_commit_everywhere"

module TaskerCore
  # What an operator's verb has changed, as events after its commit. Asks the database only if anybody listens.
  class VerbEvents
    # The event of the task or step that a verb is called for.
    NAMES = {
      cancel_task: "task.cancelled", resolve_task: "task.resolved_manually", reset_attempts: "task.retry_requested",
      reset_step: "task.retry_requested", resolve_step: "step.resolved_manually", complete_step: "step.resolved_manually"
    }.freeze
    # The verbs that can end a task, or a step that was not asked for.
    ENDINGS = { "complete" => "task.completed", "error" => "task.failed" }.freeze
    private_constant :NAMES, :ENDINGS

    # Calls a verb, and tells what it has changed.
    #
    # @param name [Symbol] of the function
    # @param arguments [Array] task id, the position for a step's verb, …, reason, by
    # @yield calls the function
    # @return [Object] its answer
    def self.around(connection, name, arguments, events: TaskerCore.events, &call)
      return yield unless NAMES.key?(name) && events.wants_any?("task.", "step.")

      new(connection, name, arguments, events).around(&call)
    end

    def initialize(connection, name, arguments, events)
      @connection = connection
      @name = name
      @task_id = arguments.first
      @position = arguments[1] if arguments[1].is_a?(Integer)
      @reason, @by = arguments.last(2)
      @events = events
    end

    def around
      before = state
      answer = yield
      AfterCommitEverywhere.after_commit(connection: @connection) { tell(before) }
      answer
    end

    private

    def state = @connection.select_value("select state from tasker_tasks where id = #{Integer(@task_id)}")

    def tell(before)
      task = Task.find(@task_id)
      version = task.workflow_version
      facts = { task_id: task.id, task_uuid: task.uuid, namespace: version.namespace, workflow: version.name,
                version: version.version }
      by_hand = facts.merge(reason: @reason, by: @by)
      step = task.steps.find { _1.position == @position }&.name if NAMES[@name].start_with?("step.")
      publish(NAMES[@name], step ? by_hand.merge(step: step) : by_hand, task)
      cancelled(task, by_hand) if @name == :cancel_task
      after = task[:state]
      publish(ENDINGS[after], facts, task) if step && ENDINGS.key?(after) && after != before
    end

    def cancelled(task, by_hand)
      steps = task.steps.select { |step| step.state == "cancelled" }
      steps.each { |step| publish("step.cancelled", by_hand.merge(step: step.name), task) }
    end

    def publish(name, payload, task)
      @events.publish(name, payload, correlation_id: task.correlation_id) if @events.wants?(name)
    end
  end
end
