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
  # For an application's tests, in RSpec and Minitest alike: steps run in the test's own thread, on its own connection and in
  # its transaction, by the functions and the StepRunner that workers have. See docs/testing_workflows.md.
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
    # A step's handler is not defined, and nothing stands in for it.
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

    # The clock is the real one again after each test.
    def self.included(base)
      super
      base.after { tasker_travel_back } if base.respond_to?(:after) # RSpec; Minitest calls after_teardown
    end

    # @api private called by Minitest
    def after_teardown
      tasker_travel_back
      super
    end

    # Runs every step that is ready, and those that become ready by that, until there is none. What waits for its next
    # attempt or its time runs when the clock has come there: with `at:`, {#tasker_travel}, or Active Support's `travel`.
    #
    # @param only [Class<Workflow>, Workflows::YamlFile, nil] runs steps of this workflow and no other
    # @param limit [Integer, nil] steps at most
    # @param at [Time, nil] the time of the database meanwhile
    # @return [Array<PerformedStep>] what ran, in this order
    # @raise [MissingHandlerError] when a step that is ready has no handler
    # @raise [FunctionsMissingError] when the test database is not prepared
    # @raise [Exception] what a test says by raising in a handler or a stub: a failed expectation or assertion, an interrupt
    def perform_tasks(only: nil, limit: nil, at: nil)
      ApplicationRecord.on_connection do |connection|
        Postgres::Functions.ensure_current(connection)
        tasker_clock.at(at, connection) do
          InlineWorker.new(connection, stubs: tasker_stubs).run(only: only, limit: limit)
        end
      end
    end

    # Moves the database's clock forward, until the end of the test. `Time.now` stays: Active Support's `travel` moves that,
    # and {#perform_tasks} then follows it.
    # @param duration [ActiveSupport::Duration, Numeric] seconds
    def tasker_travel(duration)
      ApplicationRecord.on_connection { |connection| tasker_clock.travel(duration, connection) }
    end

    # Sets the database's clock right again. Called after each test.
    def tasker_travel_back
      ApplicationRecord.on_connection { |connection| tasker_clock.back(connection) } if @tasker_clock
    end

    # Has a block called in place of a step's handler, until the end of the test.
    #
    # @param workflow [Class<Workflow>, Workflows::YamlFile]
    # @param step [Symbol, String]
    # @yieldparam context [StepContext]
    # @yieldreturn [Hash, nil] the step's result
    # @raise [UnknownStepError] when the workflow has no such step
    def stub_step(workflow, step, &block)
      tasker_stubs.add(workflow, step, block || ->(_context) {})
    end

    # Has a step fail, until the end of the test.
    #
    # @param workflow [Class<Workflow>, Workflows::YamlFile]
    # @param step [Symbol, String]
    # @param error [Exception, Class<Exception>, String] what is raised: as for Ruby's `raise`
    # @param times [Integer, nil] how many attempts fail before the handler itself is called; nil: all
    # @raise [UnknownStepError] when the workflow has no such step
    def raise_in_step(workflow, step, error = "raised by the test", times: nil)
      tasker_stubs.add(workflow, step, ->(_context) { raise error }, attempts: times)
    end

    # A context for calling a handler by itself: `ChargeCard.new.call(step_context(input: { order_id: 42 }))`.
    #
    # @param input [Hash] the task's
    # @param results [Hash] of the steps before, by name
    # @param config [Hash] the step's
    # @param facts [Hash] any other of a claim: step:, workflow:, attempt:, max_attempts:, task_id:, tags:, system:, …
    # @return [StepContext]
    # @raise [ArgumentError] with the nearest fact when there is none of a name
    def step_context(input: {}, results: {}, config: {}, **facts)
      given = { input: input, results: results, config: config, dependencies: results.keys, **facts }
      StepContext.new(Stubs.claim(JsonValue.of(given)), systems: TaskerCore.config.systems)
    end

    private

    def tasker_clock = @tasker_clock ||= Clock.new

    def tasker_stubs = @tasker_stubs ||= Stubs.new
  end
end
