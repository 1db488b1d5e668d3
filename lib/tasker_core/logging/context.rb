# frozen_string_literal: true

module TaskerCore
  class Logging
    # What is being worked at: goes into every line that is logged meanwhile. Frozen.
    #
    # It is current for one thread or fiber, as Rails isolates its own state, and for the threads and fibers that begin
    # meanwhile.
    #
    # @api private
    class Context
      # @return [String, nil] UUID that follows a task, or a request, through every process
      attr_reader :correlation_id
      # @return [Integer, nil]
      attr_reader :task_id
      # @return [String, nil]
      attr_reader :workflow, :step
      # @return [Integer, nil] which execution of the step this is, from 1
      attr_reader :attempt
      # @return [String, nil] the id of the task that is being worked at, whatever id was set since
      attr_reader :task_correlation_id

      class << self
        # @return [Context, nil]
        def current = Storage.load

        # @param claim [Hash{String => Object}] see `spec/fixtures/seam/claim.json`
        def of_claim(claim)
          id = claim.fetch("correlation_id")
          new(correlation_id: id, task_correlation_id: id, task_id: claim.fetch("task_id"), workflow: claim.fetch("workflow"),
              step: claim.fetch("step"), attempt: claim.fetch("attempt"))
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
        self.class.new(correlation_id: correlation_id, task_id: task_id, workflow: workflow, step: step, attempt: attempt,
                       task_correlation_id: task_correlation_id)
      end

      # Makes this one current while the block runs.
      def within
        outer = Storage.load
        Storage.store(self)
        yield
      ensure
        Storage.store(outer)
      end

      # @return [Object, nil] a standard field of a line
      def [](field)
        case field
        when :correlation_id then @correlation_id
        when :task_id then @task_id
        when :workflow then @workflow
        when :step then @step
        when :attempt then @attempt
        end
      end

      # @return [Array<String>] for loggers that tag
      def tags
        tags = ["correlation_id=#{correlation_id}"]
        tags.push("task=#{task_id}", "step=#{Support::VisibleText.line(step)}", "attempt=#{attempt}") if task_id
        tags
      end
    end
  end
end
