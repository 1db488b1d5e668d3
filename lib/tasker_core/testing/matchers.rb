# frozen_string_literal: true

require_relative "step_expectation"
require_relative "task_expectation"

module TaskerCore
  module Testing
    # Matchers for RSpec's `expect(task).to`.
    module Matchers
      module_function

      # `expect(task).to have_completed_step(:charge_card).with_result(charged: 4900)`
      # @param step [Symbol, String]
      # @return [StepExpectation]
      def have_completed_step(step) = StepExpectation.new(step, "complete") # rubocop:disable Naming/PredicatePrefix

      # `expect(task).to have_failed_step(:charge_card).with_error(/declined/)`: it has failed permanently.
      # @param step [Symbol, String]
      # @return [StepExpectation]
      def have_failed_step(step) = StepExpectation.new(step, "error") # rubocop:disable Naming/PredicatePrefix

      # `expect(task).to have_waiting_step(:charge_card).with_error("busy")`: it waits for its next attempt, or for its
      # time.
      # @param step [Symbol, String]
      # @return [StepExpectation]
      def have_waiting_step(step) = StepExpectation.new(step, "waiting") # rubocop:disable Naming/PredicatePrefix

      # `expect(task).to have_completed`: all its steps are complete.
      # @return [TaskExpectation]
      def have_completed = TaskExpectation.new("complete") # rubocop:disable Naming/PredicatePrefix

      # `expect(task).to have_failed`: a step failed permanently, and no step can run any more.
      # @return [TaskExpectation]
      def have_failed = TaskExpectation.new("error") # rubocop:disable Naming/PredicatePrefix
    end
  end
end
