# frozen_string_literal: true

module TaskerCore
  # Steps that run as jobs of the application's own queue (Active Job) instead of in workers. A worker claims them and
  # enqueues a {StepJob} for each ({Enqueuer}); the process that performs the job takes the claim over and runs the step
  # ({JobProcess}). docs/queues.md explains what is guaranteed.
  #
  # @api private
  module Dispatch
    module_function

    # @param configuration [Configuration]
    # @return [Boolean] whether steps of this application may run as jobs: a workflow declares it, or the settings name
    #   queues
    def used?(configuration)
      configuration[:dispatch, :queues].any? || TaskerCore.workflows.any? { |workflow| declared?(workflow) }
    end

    # @return [Boolean] whether steps of a stored workflow version run as jobs: perhaps of one that the application has
    #   replaced since, whose tasks still run
    def stored?
      ApplicationRecord.on_connection do |connection|
        connection.select_value("select exists (select from tasker_step_definitions where dispatch is not null)")
      end
    rescue ActiveRecord::StatementInvalid
      false # the tables are missing or old, which prevents the start
    end

    # @param configuration [Configuration]
    # @raise [ConfigurationError] when steps run as jobs, and Active Job has no queue for them ({Adapter#verify!})
    def verify!(configuration)
      Adapter.new.verify! if used?(configuration)
    end

    # @param workflow [Class<Workflow>, Workflows::YamlFile]
    # @return [Boolean] whether it or one of its steps declares `dispatch: active_job`
    def declared?(workflow)
      return false if workflow.is_a?(Class) && workflow.definition[:steps].empty? # an abstract class

      JSON.parse(workflow.compiled.definition_json)["steps"].any? { |step| step["dispatch"] == "active_job" }
    end
  end
end
