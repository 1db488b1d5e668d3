# frozen_string_literal: true

module TaskerCore
  module Operations
    # An operator's action on a task or on a step. {ALL} is the only list of them: the commands, the API with its
    # description and the dashboard follow it. Each has a model method (`task.cancel!`, `step.update_result!`) that
    # calls an SQL function. The function decides whether the state allows the action; `states` only says when to offer
    # it.
    #
    # @api private
    class Action
      # @return [Symbol] the word for it in methods, commands, paths and records
      attr_reader :name
      # @return [Symbol] :task or :step
      attr_reader :subject
      # @return [String] the text of its button
      attr_reader :label
      # @return [String] what it does and to what, in one sentence without a full stop
      attr_reader :effect
      # @return [String] what an operator who took it did
      attr_reader :past

      # The other parameters: see the readers.
      # @param states [Array<String>] of the task or step, in which it is offered
      # @param steps [Array<String>, nil] states, one of which a step of the task must have
      # @param result [Boolean] whether it takes a result
      def initialize(name:, subject:, label:, past:, states:, effect:, steps: nil, result: false)
        @name = name
        @subject = subject
        @label = label
        @states = states
        @steps = steps
        @effect = effect
        @past = past
        @result = result
      end

      # @return [Boolean] whether it takes a result
      def result? = @result

      # @return [Symbol] the resource for which {HTTP::Access#authorize_with} permits it
      def resource = :"#{subject}s"

      # @param state [String] of the task or step
      # @param steps [Array<String>] states of the task's steps
      # @return [Boolean]
      def offered?(state, steps = []) = @states.include?(state) && (@steps.nil? || @steps.intersect?(steps))

      # @param record [Task, WorkflowStep]
      # @param result [Hash, nil] for an action that takes one
      # @return [Task, WorkflowStep]
      # @raise [TransitionError] if the state forbids it
      # @raise [InputError] if reason or actor is blank, or the result is not an object
      def perform(record, reason:, by:, result: nil)
        record.public_send(:"#{name}!", *([result] if result?), reason: reason, by: by)
      end

      UNENDED = %w[pending in_progress].freeze
      OPEN = %w[pending ready waiting error].freeze
      DONE = %w[complete resolved_manually].freeze
      private_constant :UNENDED, :OPEN, :DONE

      ALL = [
        { name: :cancel, subject: :task, label: "Cancel the task", past: "cancelled the task", states: UNENDED,
          effect: "Cancel a task that has not ended; outcomes of handlers that are still running are rejected" },
        { name: :retry, subject: :task, label: "Retry steps", past: "retried the task", states: [*UNENDED, "error"],
          steps: %w[error waiting],
          effect: "Retry all failed steps of a task or, if none has failed, all its waiting steps" },
        { name: :resolve, subject: :task, label: "Mark the task as resolved", past: "resolved the task",
          states: %w[error],
          effect: "Resolve a task that ended with an error and was handled elsewhere: it no longer counts as failed" },
        { name: :retry, subject: :step, label: "Retry", past: "retried the step", states: %w[waiting error],
          effect: "Retry a failed step with its attempts reset, or make a waiting step ready now" },
        { name: :resolve, subject: :step, label: "Mark as resolved", past: "resolved the step", states: OPEN,
          effect: "Resolve a step that was handled elsewhere: its dependent steps may run, without its result" },
        { name: :complete, subject: :step, label: "Complete with a result", past: "completed the step", states: OPEN,
          result: true,
          effect: "Complete a step that has failed or has not started, with a result for its dependent steps" },
        { name: :release, subject: :step, label: "Release from its worker", past: "released the step",
          states: %w[in_progress],
          effect: "Release a step from its process without using an attempt; the outcome of its handler is rejected" },
        { name: :update_result, subject: :step, label: "Replace the result", past: "replaced the result", states: DONE,
          result: true,
          effect: "Replace the result of a step that is done; steps that start later read the new result" }
      ].map { |row| new(**row) }.freeze

      class << self
        # @param subject [Symbol] :task or :step
        # @return [Array<Action>]
        def of(subject) = ALL.select { |action| action.subject == subject }

        # @param subject [Symbol] :task or :step
        # @param name [Symbol, String]
        # @return [Action, nil]
        def find(subject, name) = of(subject).find { |action| action.name == name.to_sym }

        # @return [Hash{Symbol => Array<Action>}] the action of each subject, by name
        def by_name = ALL.group_by(&:name)
      end
    end
  end
end
