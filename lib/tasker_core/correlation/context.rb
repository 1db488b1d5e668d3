# frozen_string_literal: true

module TaskerCore
  module Correlation
    # The work that a thread does at the moment: its correlation id and, in a handler, the step. Log lines get these
    # fields. Frozen.
    #
    # A context is current for a thread or a fiber, as Rails isolates its own state, and for the threads and fibers that
    # it starts.
    #
    # @api private
    class Context
      # @return [String, nil] a UUID
      attr_reader :correlation_id
      # @return [Integer, nil]
      attr_reader :task_id
      # @return [String, nil]
      attr_reader :workflow, :step
      # @return [Integer, nil] counted from 1
      attr_reader :attempt
      # @return [String, nil] the correlation id of the task whose handler runs, even while another id is current
      attr_reader :task_correlation_id

      class << self
        # @return [Context, nil]
        def current = Storage.load

        # @param claim [Hash{String => Object}] see `spec/fixtures/seam/claim.json`
        # @return [Context]
        def from_claim(claim)
          id = claim.fetch("correlation_id")
          new(correlation_id: id, task_correlation_id: id, task_id: claim.fetch("task_id"),
              workflow: claim.fetch("workflow"), step: claim.fetch("step"), attempt: claim.fetch("attempt"))
        end
      end

      def initialize(correlation_id:, task_id: nil, workflow: nil, step: nil, attempt: nil, task_correlation_id: nil)
        @correlation_id = correlation_id
        @task_id = task_id
        @workflow = workflow
        @step = step
        @attempt = attempt
        @task_correlation_id = task_correlation_id
        freeze
      end

      # @return [Context] the same work under another id
      def with(correlation_id:)
        self.class.new(correlation_id: correlation_id, task_id: task_id, workflow: workflow, step: step,
                       attempt: attempt, task_correlation_id: task_correlation_id)
      end

      # Makes this context current while the block runs.
      # @return [Object] what the block returns
      def within
        outer = Storage.load
        Storage.store(self)
        yield
      ensure
        Storage.store(outer)
      end

      # @param field [Symbol]
      # @return [Object, nil] a standard field of log lines
      def [](field)
        case field
        when :correlation_id then @correlation_id
        when :task_id then @task_id
        when :workflow then @workflow
        when :step then @step
        when :attempt then @attempt
        end
      end

      # @return [Array<String>] for tagged loggers
      def tags
        tags = ["correlation_id=#{correlation_id}"]
        tags.push("task=#{task_id}", "step=#{Support::VisibleText.line(step)}", "attempt=#{attempt}") if task_id
        tags
      end
    end
  end
end
