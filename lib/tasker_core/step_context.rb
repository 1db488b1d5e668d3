# frozen_string_literal: true

module TaskerCore
  # The argument of handlers: the step, its task, and the results of earlier steps. Frozen; can be converted to JSON and
  # back.
  class StepContext
    # @return [StepResults] results of all earlier steps, direct parents or not, by name
    attr_reader :results

    # @api private
    # @param claim [Hash{String => Object}] see `spec/fixtures/seam/claim.json`
    # @param ancestors [#call] returns results of earlier steps; see {StepResults}
    # @param task_input [#call] returns the task's input, for a claim that omits it
    # @param cancelled [#call] returns whether the claim was revoked
    # @param systems [Hash{String => ExternalSystem}] from the settings, by name
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

    # @param text [String] the result of {#to_json}
    # @param collaborators [Hash] see {#initialize}
    # @return [StepContext]
    def self.from_json(text, **collaborators) = new(JSON.parse(text, freeze: true), **collaborators)

    # The task's input. A long one is read from the database at the first call.
    # @return [Hash{String => Object}]
    # @raise [PermanentError] when the database cannot read it
    # @raise [RetryableError] when the database cannot be reached
    def input = @input.is_a?(LaterInput) ? @input.value : @input

    # The claim's token, which no other attempt of any step has. A later attempt of this step has a larger one, unless
    # the database has lost commits in between: a service that rejects tokens smaller than the largest it has seen is
    # protected from late attempts.
    # @return [Integer]
    def token = @claim.fetch("token")

    # @return [Array<String>] names of the step's direct parents
    def dependencies = @claim.fetch("dependencies")

    # @return [Integer] the number of this attempt, from 1
    def attempt = @claim.fetch("attempt")

    # @return [Integer] maximum number of attempts
    def max_attempts = @claim.fetch("max_attempts")

    # @return [Boolean] whether a failure of this attempt ends the step
    def last_attempt? = attempt >= max_attempts

    # @return [Hash{String => Object}] the step's `config:`, with its keys as strings
    def config = @claim.fetch("config")

    # @return [Float] the time limit, in seconds
    def timeout = @claim.fetch("timeout_ms") / 1000.0

    # @return [String] name of this step
    def step_name = @claim.fetch("step")

    # @return [String] name of the workflow
    def workflow_name = @claim.fetch("workflow")

    # @return [String] the workflow's namespace
    def namespace = @claim.fetch("namespace")

    # @return [String] the workflow's version
    def version = @claim.fetch("version")

    # @return [String] the step's queue
    def queue = @claim.fetch("queue")

    # Publishes an event of the application. Ids and names of task, workflow and step are added to the payload.
    #
    # @param name [String] declared with `event` in the workflow or handler
    # @param payload [Hash]
    # @raise [UnknownEventError] with the nearest name when it is not declared
    # @raise [InputError] when the payload has no JSON representation
    # @raise [DatabaseError] when the event is durable and cannot be stored
    def publish(name, **payload)
      facts = @claim.slice("task_id", "task_uuid", "namespace", "workflow", "version", "step", "attempt")
      @events.publish(name, facts.symbolize_keys.merge(payload), correlation_id: correlation_id)
    end

    # @return [ExternalSystem, nil] the external system that the step names with `system:`
    # @raise [ConfigurationError] when this process's settings lack it
    def system
      name = @claim["system"]
      name && @systems.fetch(name) do
        raise ConfigurationError.new("the step #{step_name} of #{workflow_name} uses the system #{name}, which " \
                                     "this process does not configure: set systems.#{name}.base_url")
      end
    end

    # @return [Integer]
    def task_id = @claim.fetch("task_id")

    # @return [String] the task's public id
    def task_uuid = @claim.fetch("task_uuid")

    # @return [Array<String>] the task's tags
    def tags = @claim.fetch("tags")

    # @return [String] a UUID that follows the task
    def correlation_id = @claim.fetch("correlation_id")

    # @return [String, nil] the correlation id of the task whose handler created this task
    def parent_correlation_id = @claim["parent_correlation_id"]

    # An idempotency key for other services: the same for all attempts of this step, and different for every other step.
    # @return [String]
    def idempotency_token = "#{task_uuid}:#{step_name}"

    # @return [Task] read from the database at each call
    def task = Task.find(task_id)

    # @return [Boolean] whether the claim was revoked, for instance by a cancellation: the outcome will be rejected
    def cancelled? = @cancelled.call

    # @return [Hash{String => String}] headers for requests to other services: the correlation id, to find their log
    #   lines
    def http_headers = { Correlation.header => correlation_id }

    # @return [Logger] adds correlation id, task and step to each line, in any thread
    def logger = TaskerCore.logging.logger_for(log_context)

    # @api private
    # @return [Correlation::Context]
    def log_context = Correlation::Context.from_claim(@claim)

    # Hides the values that the application filters from its logs.
    # @return [String]
    def inspect
      shown = @input.is_a?(LaterInput) ? @input : TaskerCore.logging.filtered("input" => @input).fetch("input")
      "#<#{self.class.name} task=#{task_id} step=#{step_name} attempt=#{attempt} input=#{shown}>"
    end

    # @return [Hash{String => Object}] the claim with the input and all results, however long
    def as_json(*) = @claim.except("deferred").merge("input" => input, "results" => results.to_h)

    # @return [String]
    def to_json(*) = JSON.generate(as_json)

    # @param other [Object]
    # @return [Boolean] whether it is a context with the same claim, input and results
    def ==(other) = other.is_a?(StepContext) && as_json == other.as_json

    # An input that the claim omits.
    # @api private
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
