# frozen_string_literal: true

module TaskerCore
  module Tracing
    # Attributes of spans: the semantic conventions of messaging, and `tasker.*`.
    #
    # @api private
    module Attributes
      module_function

      # @return [Hash{String => Object}] of a span that creates tasks
      def creation(workflow, count)
        attributes = { "messaging.system" => SYSTEM, "messaging.operation.name" => "create",
                       "messaging.operation.type" => "send", "tasker.workflow.namespace" => workflow.namespace,
                       "tasker.workflow.name" => workflow.name, "tasker.workflow.version" => workflow.version }
        attributes["messaging.batch.message_count"] = count if count > 1
        attributes
      end

      # @param created [Array<Hash>] the result of create_tasks
      # @return [Hash{String => Object}] what is known after the creation
      def created(created)
        queues = created.flat_map { |task| task["queues"] }.uniq
        attributes = { "tasker.tasks.existing" => created.count { |task| task["existing"] } }
        attributes["messaging.destination.name"] = queues.first if queues.one?
        if created.one?
          uuid, correlation_id = created.first.values_at("uuid", "correlation_id")
          attributes.update("tasker.task.uuid" => uuid, "messaging.message.id" => uuid,
                            "messaging.message.conversation_id" => correlation_id)
        end
        attributes
      end

      # @return [Hash{String => Object}] of a span of an attempt
      def attempt(claim)
        { "messaging.system" => SYSTEM, "messaging.operation.name" => "process",
          "messaging.operation.type" => "process", "messaging.destination.name" => claim.fetch("queue"),
          "messaging.message.id" => "#{claim.fetch('task_uuid')}:#{claim.fetch('step')}",
          "messaging.message.conversation_id" => claim.fetch("correlation_id"),
          "tasker.task.uuid" => claim.fetch("task_uuid"), "tasker.workflow.namespace" => claim.fetch("namespace"),
          "tasker.workflow.name" => claim.fetch("workflow"), "tasker.workflow.version" => claim.fetch("version"),
          "tasker.step.name" => claim.fetch("step"), "tasker.attempt.number" => claim.fetch("attempt"),
          "tasker.attempt.max" => claim.fetch("max_attempts") }
      end
    end
  end
end
