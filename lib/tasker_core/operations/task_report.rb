# frozen_string_literal: true

module TaskerCore
  module Operations
    # A task as one JSON object: the output of `tasker run --json`.
    #
    # @api private
    class TaskReport
      STEP = %i[name state attempts error started_at finished_at running_ms].freeze
      private_constant :STEP

      # @param task [Task]
      def initialize(task)
        @task = task
      end

      # @return [Hash] {summary}, and results by step name
      def to_h = summary.merge(results: @task.results)

      # @return [Hash] state, execution_status, steps, elapsed_ms (from creation to end, or to now), running_ms (the sum
      #   of all attempts)
      def summary
        task = HTTP::Serializer.task(@task)
        { **task.slice(:state, :execution_status), steps: steps, **task.slice(:elapsed_ms, :running_ms) }
      end

      # Reads one result at a time, as they may be large together.
      # @return [Enumerator::Lazy<String>] members of a JSON object: step name and result
      def results = StoredResults.new(@task.id).lazy.map { |result| "#{JSON.generate(result.name)}:#{result.text}" }

      # @return [Array<Hash>] name, state, attempts, error, started_at and finished_at (ISO 8601, UTC) and running_ms of
      #   each step
      def steps = HTTP::Serializer.steps(@task, results: false).map { |step| step.slice(*STEP) }
    end
  end
end
