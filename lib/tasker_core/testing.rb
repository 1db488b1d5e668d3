# frozen_string_literal: true

require "tasker_core"
require_relative "testing/assertions"
require_relative "testing/claim_source"
require_relative "testing/clock"
require_relative "testing/inline_worker"
require_relative "testing/matchers"
require_relative "testing/performed_step"
require_relative "testing/savepoint"
require_relative "testing/stubs"
require_relative "testing/recording_handler"

module TaskerCore
  # Runs workflows in an application's tests, with RSpec or Minitest: steps run in the test's thread, on its connection
  # and in its transaction, by the same SQL functions and step runner as in workers. See docs/testing_workflows.md.
  #
  # @example
  #   class OrderFulfillmentTest < ActiveSupport::TestCase
  #     include TaskerCore::Testing
  #
  #     test "an order is charged" do
  #       stub_step(OrderFulfillment, :ship) { |context| { sent: 1 } }
  #       task = OrderFulfillment.create!(order_id: 42)
  #       perform_tasks
  #       assert_step_completed task, :charge_card, result: { charged: 4900 }
  #     end
  #   end
  module Testing
    # A step's handler is neither defined nor stubbed.
    class MissingHandlerError < Error
      # @api private
      def self.of(claim)
        step, workflow, handler = claim.values_at("step", "workflow", "handler")
        new("step #{step} of #{workflow}: its handler #{handler} is not defined: define it, or let " \
            "stub_step(#{workflow.camelize}, :#{step}) { |context| {} } stand in for it",
            facts: { "step" => step, "workflow" => workflow, "handler" => handler })
      end
    end

    include Matchers
    include Assertions

    # @api private resets the clock after each test
    def self.included(base)
      super
      base.after { tasker_travel_back } if base.respond_to?(:after) # RSpec; Minitest calls after_teardown
    end

    # @api private called by Minitest after each test
    def after_teardown
      tasker_travel_back
      super
    end

    # Runs the ready steps, and those that become ready meanwhile, until none is left. A step that waits for its next
    # attempt, or for its time, runs when the clock has reached it: with `at:`, {#tasker_travel}, or Active Support's
    # `travel`.
    #
    # @param only [Class<Workflow>, Workflows::YamlFile, nil] the workflow whose steps run; nil: all
    # @param limit [Integer, nil] largest number of steps to run
    # @param at [Time, nil] the database's time meanwhile
    # @return [Array<PerformedStep>] the attempts that ran, in order
    # @raise [MissingHandlerError] when the handler of a ready step is neither defined nor stubbed
    # @raise [FunctionsMissingError] when the test database is not prepared
    # @raise [Exception] raised in a handler or a stub to end the test: a failed expectation or assertion, an interrupt
    def perform_tasks(only: nil, limit: nil, at: nil)
      ApplicationRecord.on_connection do |connection|
        Postgres::Functions.ensure_current(connection)
        tasker_clock.at(at, connection) do
          InlineWorker.new(connection, stubs: tasker_stubs).run(only: only, limit: limit)
        end
      end
    end

    # Moves the database's clock forward, until the end of the test. It does not change `Time.now`; Active Support's
    # `travel` does, and {#perform_tasks} follows it.
    # @param duration [ActiveSupport::Duration, Numeric] seconds
    def tasker_travel(duration)
      ApplicationRecord.on_connection { |connection| tasker_clock.travel(duration, connection) }
    end

    # Resets the database's clock. Called after each test.
    def tasker_travel_back
      ApplicationRecord.on_connection { |connection| tasker_clock.back(connection) } if @tasker_clock
    end

    # Replaces a step's handler by a block, until the end of the test.
    #
    # @param workflow [Class<Workflow>, Workflows::YamlFile]
    # @param step [Symbol, String]
    # @yieldparam context [StepContext]
    # @yieldreturn [Hash, nil] the step's result
    # @raise [UnknownStepError] when the workflow has no such step
    def stub_step(workflow, step, &block)
      tasker_stubs.add(workflow, step, block || ->(_context) {})
    end

    # Makes a step fail, until the end of the test.
    #
    # @param workflow [Class<Workflow>, Workflows::YamlFile]
    # @param step [Symbol, String]
    # @param error [Exception, Class<Exception>, String] as for Ruby's `raise`
    # @param times [Integer, nil] number of attempts that fail before the handler itself is called; nil: all
    # @raise [UnknownStepError] when the workflow has no such step
    def raise_in_step(workflow, step, error = "raised by the test", times: nil)
      tasker_stubs.add(workflow, step, ->(_context) { raise error }, attempts: times)
    end

    # Builds a context to call a handler directly: `ChargeCard.new.call(step_context(input: { order_id: 42 }))`.
    #
    # @param input [Hash] the task's
    # @param results [Hash] of earlier steps, by name
    # @param config [Hash] the step's
    # @param facts [Hash] other facts of a claim: step:, workflow:, attempt:, max_attempts:, task_id:, tags:, system:, …
    # @return [StepContext]
    # @raise [ArgumentError] with the nearest fact when one is unknown
    def step_context(input: {}, results: {}, config: {}, **facts)
      given = { input: input, results: results, config: config, dependencies: results.keys, **facts }
      StepContext.new(Stubs.claim(Support::JsonValue.of(given)), systems: TaskerCore.config.systems)
    end

    private

    def tasker_clock = @tasker_clock ||= Clock.new

    def tasker_stubs = @tasker_stubs ||= Stubs.new
  end
end
