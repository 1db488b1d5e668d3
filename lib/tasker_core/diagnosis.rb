# frozen_string_literal: true

module TaskerCore
  # Why does a task wait, or why has it ended so? It tells of the steps at which the task stands (those that failed, run, are
  # ready or wait for a time), and with each how many others wait for it; never of every step. What is read is bounded:
  # a task of 10,000 steps, or a queue of millions, costs little more than small ones.
  #
  # @example
  #   diagnosis = TaskerCore::Diagnosis.new(task)
  #   puts diagnosis.summary, diagnosis.reasons
  class Diagnosis
    # What can keep a task, the gravest first, or has ended it.
    KINDS = {
      "broken" => "nothing in it is active, and it has not ended: a fault",
      "error" => "a step failed for good",
      "unreadable" => "the database cannot read what a claim on the step needs",
      "no_worker" => "a step is ready, and no live worker serves its queue",
      "lost_worker" => "the worker that has the step gives no sign of life, or its lease has ended",
      "overdue" => "the time for which a step waited has passed, and nobody has made it ready",
      "unknown_handler" => "no worker that took the step knows its handler",
      "not_loaded" => "the worker that took the step cannot load the application's code",
      "ready" => "a step is ready, and a worker has not taken it yet",
      "in_progress" => "a worker runs the step",
      "retry" => "a step failed and waits for its next attempt",
      "limited" => "as many steps run beside it as the settings allow",
      "delay" => "the task is scheduled for later",
      "cancelled" => "somebody cancelled the task",
      "resolved_manually" => "somebody declared the task, or a step of it, to be dealt with",
      "complete" => "all is done"
    }.freeze

    # One of them. `step` is a name, or nil for the task itself; `kind` is one of {KINDS}; `remedy` has the command that helps, or
    # is nil where nothing has to be done; `facts` are for programs, times in them ISO 8601.
    Reason = Struct.new(:step, :kind, :explanation, :remedy, :facts, keyword_init: true) do
      def to_s = [explanation, remedy].compact.join("\n  ")
    end

    STATES = { "pending" => "has not begun", "in_progress" => "is in progress", "error" => "has ended with an error",
               "complete" => "is complete", "cancelled" => "is cancelled", "resolved_manually" => "is resolved by hand" }.freeze
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
        "#{task['completed_steps']} of #{Wording.counted(task['total_steps'], 'step')} done; #{explanations.first.headline}" \
        "#{", and #{Wording.counted(others, 'other reason')}" if others.positive?}"
    end

    # @return [Array<Reason>] the gravest first; at least one
    # @raise [TaskNotFoundError] when the task has been removed
    def reasons = @reasons ||= explanations.map(&:reason).freeze

    # @return [Hash] for JSON
    def to_h = { task: @id, summary: summary, reasons: reasons.map(&:to_h) }

    def to_s = [summary, *reasons.map { |reason| "- #{reason}" }].join("\n")

    private

    def snapshot = @snapshot ||= Snapshot.new(@id)

    def explanations
      @explanations ||= (ended || frontier).sort_by.with_index { |explanation, number| [severity(explanation.kind), number] }
    end

    def severity(kind) = KINDS.keys.index(kind)

    # Whatever its steps were, this is how it ended; nil where steps have to tell.
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

    def explain(state, steps)
      return [Ready.new(steps, snapshot)] if state == "ready"

      type = { "error" => Failed, "in_progress" => Running, "waiting" => Waiting }.fetch(state)
      left = steps.first["of_group"] - steps.size
      explanations = steps.map { |step| type.new(step, snapshot) }
      left.positive? ? explanations << Remainder.new(explanations.last, left, snapshot) : explanations
    end
  end
end
