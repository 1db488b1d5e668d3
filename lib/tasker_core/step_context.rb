# frozen_string_literal: true

module TaskerCore
  # What a handler sees of its step and task. Frozen; can be written as JSON and read back.
  class StepContext
    # @return [StepResults] results of the steps before this one, near and far, by name
    attr_reader :results

    # @param claim [Hash{String => Object}] see `spec/fixtures/seam/claim.json`
    # @param ancestors [#call] returns results of steps before this one; see {StepResults}
    # @param task_input [#call] returns the task's input, for a claim that came without it
    # @param cancelled [#call] answers whether the step was taken away meanwhile
    # @param systems [Hash{String => ExternalSystem}] those of the settings
    # @param events [Events]
    def initialize(claim, ancestors: StepResults::NONE, task_input: -> { {} }, cancelled: -> { false }, systems: {},
                   events: TaskerCore.events)
      @claim = claim
      deferred = claim.fetch("deferred", {})
      @input = deferred["input"] ? LaterInput.new(task_input) : claim.fetch("input")
      @results = StepResults.new(claim.fetch("results"), step: claim.fetch("step"), ancestors: ancestors,
                                                         deferred: deferred.fetch("results", []))
      @cancelled = cancelled
      @systems = systems
      @events = events
      freeze
    end

    # @param text [String] what {#to_json} wrote
    def self.from_json(text, **collaborators) = new(JSON.parse(text, freeze: true), **collaborators)

    # The task's input. One that was too long to come with the claim is read when it is first asked for.
    # @return [Hash{String => Object}] the task's input
    # @raise [PermanentError] when the database cannot read it
    # @raise [RetryableError] when the database cannot be asked
    def input = @input.is_a?(LaterInput) ? @input.value : @input

    # The proof of the claim: no other attempt of any step has it, and a later attempt of this step has a larger one, unless the
    # database has lost commits in between. A service that refuses smaller ones than it has seen is safe from an attempt that
    # comes late.
    # @return [Integer]
    def token = @claim.fetch("token")

    # @return [Array<String>] names of the steps that this one depends on
    def dependencies = @claim.fetch("dependencies")

    # @return [Integer] which execution of the step this is, from 1
    def attempt = @claim.fetch("attempt")

    # @return [Integer] executions at most
    def max_attempts = @claim.fetch("max_attempts")

    # @return [Boolean] whether a failure of this attempt ends the step
    def last_attempt? = attempt >= max_attempts

    # @return [Hash{String => Object}] the step's `config:`
    def config = @claim.fetch("config")

    # @return [Float] time limit in seconds
    def timeout = @claim.fetch("timeout_ms") / 1000.0

    # @return [String] name of this step
    def step_name = @claim.fetch("step")

    # @return [String] name of the workflow
    def workflow_name = @claim.fetch("workflow")

    # @return [String] of the workflow
    def namespace = @claim.fetch("namespace")

    # @return [String] of the workflow
    def version = @claim.fetch("version")

    # @return [String] of this step
    def queue = @claim.fetch("queue")

    # Publishes an event of the application's own, with the task's id and step beside what is given.
    #
    # @param name [String] registered with `event` in the workflow or handler
    # @raise [UnknownEventError] with the nearest name when it is not known
    def publish(name, **payload)
      facts = @claim.slice("task_id", "task_uuid", "namespace", "workflow", "version", "step", "attempt")
      @events.publish(name, facts.symbolize_keys.merge(payload), correlation_id: correlation_id)
    end

    # @return [ExternalSystem, nil] the one that the step names
    # @raise [ConfigurationError] when this process's settings lack it
    def system
      name = @claim["system"]
      name && @systems.fetch(name) do
        raise ConfigurationError.new("the settings of this process have no systems.#{name}, which the step #{step_name} of " \
                                     "#{workflow_name} names: give it a base_url")
      end
    end

    # @return [Integer] the number of the task
    def task_id = @claim.fetch("task_id")

    # @return [String] the task's public id
    def task_uuid = @claim.fetch("task_uuid")

    # @return [Array<String>] of the task
    def tags = @claim.fetch("tags")

    # @return [String] a UUID that follows the task
    def correlation_id = @claim.fetch("correlation_id")

    # @return [String, nil] of the task whose handler created this one
    def parent_correlation_id = @claim["parent_correlation_id"]

    # The same for all attempts of this step, and of no other: for services that take such a key.
    # @return [String]
    def idempotency_token = "#{task_uuid}:#{step_name}"

    # @return [Task] read from the database at each call
    def task = Task.find(task_id)

    # @return [Boolean] whether the step was taken away, by a cancellation for instance: nothing can be finished
    def cancelled? = @cancelled.call

    # @return [Hash{String => String}] for requests to other services, so that their lines can be found beside ours
    def http_headers = { Correlation.header => correlation_id }

    # @return [Logger] with task, step and correlation id on each line, in whatever thread
    def logger = TaskerCore.logging.logger_for(log_context)

    # @api private
    # @return [Correlation::Context]
    def log_context = Correlation::Context.of_claim(@claim)

    # Without what the application filters from its logs.
    def inspect
      shown = @input.is_a?(LaterInput) ? @input : TaskerCore.logging.filtered("input" => @input).fetch("input")
      "#<#{self.class.name} task=#{task_id} step=#{step_name} attempt=#{attempt} input=#{shown}>"
    end

    # With the input and all results, whatever their length.
    def as_json(*) = @claim.except("deferred").merge("input" => input, "results" => results.to_h)

    def to_json(*) = JSON.generate(as_json)

    def ==(other) = other.is_a?(StepContext) && as_json == other.as_json

    # An input that did not come with the claim.
    class LaterInput
      # @param load [#call]
      def initialize(load)
        @load = load
      end

      def value = @value ||= @load.call

      def to_s = @value ? "(read)" : "(not read yet)"
    end
    private_constant :LaterInput
  end
end
