# frozen_string_literal: true

module TaskerCore
  # Explains why a task waits, or how it ended. Covers the steps that failed, run, are ready or wait for a time, each
  # with the number of steps behind it, and never all steps. Reads are bounded: a task of 10,000 steps, or a queue
  # of millions, costs little more than a small one.
  #
  # @example
  #   diagnosis = TaskerCore::Diagnosis.new(task)
  #   puts diagnosis.summary, diagnosis.reasons
  class Diagnosis
    # The reasons why a task waits or has ended, the most severe first.
    KINDS = {
      "broken" => "the task has not ended, but none of its steps is active: a fault",
      "error" => "a step failed permanently",
      "unreadable" => "the database cannot read data needed to claim the step",
      "no_worker" => "a step is ready, but no live worker serves its queue",
      "lost_worker" => "the worker that runs the step sends no heartbeats, or its lease has expired",
      "overdue" => "a waiting step is due, but no sweep has made it ready",
      "unknown_handler" => "no worker that claimed the step defines its handler",
      "not_loaded" => "the worker that claimed the step cannot load the application's code",
      "not_enqueued" => "the application's job queue did not accept the step's job",
      "dispatched" => "the step's job is enqueued, and no process has started it yet",
      "ready" => "a step is ready, and no worker has claimed it yet",
      "in_progress" => "a worker runs the step",
      "retry" => "a step failed and waits for its next attempt",
      "limited" => "a configured limit is reached",
      "delay" => "the task is scheduled for later",
      "cancelled" => "an operator cancelled the task",
      "resolved_manually" => "an operator resolved the task or one of its steps",
      "complete" => "all steps are done"
    }.freeze

    # One reason. `step` is a name, or nil for the task itself; `kind` is a key of {KINDS}; `remedy` names the command
    # that helps, and is nil if nothing is to be done; `facts` are for programs, with times in ISO 8601.
    Reason = Struct.new(:step, :kind, :explanation, :remedy, :facts, keyword_init: true) do
      def to_s = [explanation, remedy].compact.join("\n  ")
    end

    STATES = { "pending" => "has not started", "in_progress" => "is in progress", "error" => "has ended with an error",
               "complete" => "is complete", "cancelled" => "is cancelled",
               "resolved_manually" => "was resolved by an operator" }.freeze
    private_constant :STATES

    # @param task [Task]
    def initialize(task)
      @id = task.id
    end

    # @return [String] one sentence
    # @raise [TaskNotFoundError] when the task has been removed
    def summary
      task = snapshot.task
      others = explanations.size - 1
      "task #{@id} (#{task['namespace']}.#{task['workflow']} #{task['version']}) #{STATES.fetch(task['state'])}: " \
        "#{task['completed_steps']} of #{Wording.counted(task['total_steps'], 'step')} done; " \
        "#{explanations.first.headline}" \
        "#{", and #{Wording.counted(others, 'other reason')}" if others.positive?}"
    end

    # @return [Array<Reason>] the most severe first; at least one
    # @raise [TaskNotFoundError] when the task has been removed
    def reasons = @reasons ||= explanations.map(&:reason).freeze

    # @return [Hash] for JSON
    def to_h = { task: @id, summary: summary, reasons: reasons.map(&:to_h) }

    def to_s = [summary, *reasons.map { |reason| "- #{reason}" }].join("\n")

    private

    def snapshot = @snapshot ||= Snapshot.new(@id)

    def explanations
      @explanations ||= (ended || frontier).sort_by.with_index do |explanation, number|
        [severity(explanation.kind), number]
      end
    end

    def severity(kind) = KINDS.keys.index(kind)

    # @return [Array<Explanation>, nil] how the task ended; nil if its steps have to explain it
    def ended
      case snapshot.task["state"]
      when "complete" then [Completed.new(snapshot), *overrides]
      when "cancelled" then [EndedByOperator.new(snapshot, "cancel")]
      when "resolved_manually" then [EndedByOperator.new(snapshot, "resolve")]
      end
    end

    def overrides = snapshot.step_overrides.map { |event| StepOverride.new(event, snapshot) }

    def frontier
      groups = snapshot.steps.group_by { |step| step.values_at("state", "group") }
      found = groups.flat_map { |(state, _), steps| explain(state, steps) }
      found.empty? ? [Broken.new(snapshot)] : found
    end

    def type_of(step)
      return Dispatched if %w[claimed enqueued].include?(step["dispatch"])

      { "error" => Failed, "in_progress" => Running, "waiting" => Waiting }.fetch(step["state"])
    end

    def explain(state, steps)
      return [Ready.new(steps, snapshot)] if state == "ready"

      left = steps.first["of_group"] - steps.size
      explanations = steps.map { |step| type_of(step).new(step, snapshot) }
      left.positive? ? explanations << Remainder.new(explanations.last, left, snapshot) : explanations
    end
  end
end
