# frozen_string_literal: true

module TaskerCore
  module Operations
    # A task as one object for programs: what `tasker run --json` prints.
    #
    # @api private
    class TaskReport
      STEP = %i[name state attempts error started_at finished_at running_ms].freeze
      private_constant :STEP

      def initialize(task)
        @task = task
      end

      # @return [Hash] {summary}, and results by step name
      def to_h = summary.merge(results: @task.results)

      # @return [Hash] state, execution_status, steps; elapsed_ms from creation to end, or to now; running_ms, what all attempts
      #   took together
      def summary
        task = HTTP::Serializer.task(@task)
        { **task.slice(:state, :execution_status), steps: steps, **task.slice(:elapsed_ms, :running_ms) }
      end

      # One by one: all together may be long.
      # @return [Enumerator::Lazy<String>] members of a JSON object, the step's name and its result each
      def results = StoredResults.new(@task.id).lazy.map { |result| "#{JSON.generate(result.name)}:#{result.text}" }

      # @return [Array<Hash>] of each step name, state, attempts, error, started_at and finished_at (ISO 8601, UTC), running_ms
      def steps = HTTP::Serializer.steps(@task, results: false).map { |step| step.slice(*STEP) }
    end
  end
end
