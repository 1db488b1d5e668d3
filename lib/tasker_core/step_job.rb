# frozen_string_literal: true

require "active_job"

module TaskerCore
  # The job of a step that runs in the application's own queue; docs/queues.md. It carries the claim of the worker that
  # enqueued it. Performed twice, or later than the claim lasted, it does nothing.
  #
  # The outcome of the step is in the database, not in the queue: a step that fails does not fail its job.
  class StepJob < ActiveJob::Base
    CLAIM = %w[token task_id position attempt].freeze
    private_constant :CLAIM

    # The database cannot be reached, or this process is ending. After the last try the step is dispatched again when
    # `dispatch.start_timeout` has passed.
    retry_on DatabaseError, StoppedError, wait: 5.seconds, attempts: 10 do |job, error|
      Instrumentation.instrument("job_given_up", claim: job.arguments.first, error: error)
    end

    # @api private
    # @param step [Hash{String => Object}] as {Dispatch::Adapter#enqueue} gets it
    # @return [StepJob] with the queue and the priority of the step
    def self.for(step)
      name = "#{step['namespace']}.#{step['workflow']}"
      new(step.fetch("claim"), "task" => step["task_uuid"], "workflow" => name, "step" => step["step"])
        .set(queue: step.fetch("queue"), priority: step.fetch("priority"))
    end

    # @param claim [Hash{String => Integer}] token, task_id, position, attempt
    # @param _shown [Hash{String => String}] task, workflow and step, for those who look at the queue
    def perform(claim, _shown = {})
      Dispatch::JobProcess.current.run(claim.slice(*CLAIM))
    end
  end
end
