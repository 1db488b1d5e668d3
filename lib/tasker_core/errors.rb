# frozen_string_literal: true

# Every exception of tasker_core. The extension looks them up here and hands over a sentence and its facts.
module TaskerCore
  # The root: `rescue TaskerCore::Error` catches whatever the gem raises.
  class Error < StandardError
    # @return [Hash{String => Object}] what the message says, for programs
    attr_reader :facts

    # @api private called by the extension and by {Postgres::Functions}
    # @param facts [String] JSON text
    def self.from_facts(message, facts) = new(message, facts: JSON.parse(facts))

    def initialize(message = nil, facts: {})
      super(message)
      @facts = facts
    end

    # @return [Array<Hash{String => String}>] each with "field", "value", "kind" (its type) and "message"
    def problems = facts.fetch("problems", [])
  end

  # A setting is unknown, of the wrong type, or out of range.
  class ConfigurationError < Error; end

  # A workflow cannot be compiled, or a file of one cannot be read.
  class WorkflowError < Error; end

  # A version is registered with another content: the workflow needs another version.
  class WorkflowConflictError < WorkflowError; end

  # No such workflow, or no such version of it, is registered.
  class UnknownWorkflowError < WorkflowError; end

  # A task's input does not fit the workflow's schema or the limits.
  class InputError < Error
    LONGEST_VALUE = 500
    private_constant :LONGEST_VALUE

    # @api private
    # @param remedy [String] what it must be: "must be a UUID"
    def self.of(field, value, remedy)
      problem = { "field" => field.to_s, "value" => value.to_s.truncate(LONGEST_VALUE), "kind" => value.class.name,
                  "message" => remedy }
      new("#{field}: #{value.inspect.truncate(LONGEST_VALUE)} (#{value.class}) #{remedy}", facts: { "problems" => [problem] })
    end

    # @api private
    # @param what [String] the value that was to be written: "the payload of order.shipped"
    # @param error [JsonValue::Unwritable]
    def self.unwritable(what, error)
      new("#{what}: cannot be written as JSON: #{error.message}",
          facts: { "problems" => [{ "field" => error.path, "message" => error.message }] })
    end

    # @api private
    # @param logging [Logging]
    # @return [InputError] without the values that are kept out of logs: an exception's message is logged somewhere
    def filtered(logging)
      return self unless logging.filtering? && problems.all? { |problem| problem.key?("value") }

      hidden = problems.to_h { |problem| [problem, shown(problem, logging)] }
      message = hidden.reduce(self.message) { |text, (problem, value)| text.gsub(": #{problem['value']} (", ": #{value} (") }
      self.class.new(message, facts: facts.merge("problems" => hidden.map { |problem, value| problem.merge("value" => value) }))
    end

    private

    def shown(problem, logging)
      return "…" if %w[object array].include?(problem["kind"]) # what is in it may have names of its own

      problem["field"].to_s.scan(/[^.\[\]]+/).any? { |name| logging.filters?(name) } ? "[FILTERED]" : problem["value"]
    end
  end

  # A parameter of a request is unknown, or has a form that it cannot have.
  class ParameterError < InputError; end

  # A request cannot be read.
  class RequestError < Error; end

  # A request's body is longer than `api.body_bytes`.
  class RequestTooLargeError < RequestError; end

  # A request's body is said to be no JSON.
  class MediaTypeError < RequestError; end

  # The API has nothing at that path, or not for that method.
  class UnknownResourceError < Error; end

  # There is no step of that name where one was looked for: a handler sees the results of those before its own.
  class UnknownStepError < Error
    # @api private
    # @param known [Array<String>] the names that there are
    # @param what [String] the predicate: "is no step of task 5"
    def self.of(name, known, what)
      new("#{name} #{what}: #{Support::Spelling.remedy(name, known)}", facts: { "step" => name.to_s, "known" => known })
    end
  end

  # An event's name is not known, or has a form that none can have, or a filter names a field that no event has.
  class UnknownEventError < Error; end

  # There is no such task.
  class TaskNotFoundError < Error; end

  # The state forbids what was asked for.
  class TransitionError < Error; end

  # A task with that idempotency key exists already: the same request was sent before, or one with another input.
  class IdempotencyConflictError < Error
    # @api private
    # @param task [Task] the first task with the key
    # @param url [String, nil] where it is shown
    def self.of(task, url: nil)
      new("the idempotency key is taken: task #{task.uuid} has it",
          facts: { "task" => { "id" => task.id, "uuid" => task.uuid, "url" => url }.compact })
    end

    # @return [Task] the first task with the key
    def task = Task.find(facts.fetch("task").fetch("id"))

    # @api private
    # @yieldparam uuid [String] of the first task with the key
    # @yieldreturn [String] its URL
    # @return [IdempotencyConflictError] with the URL
    def with_url
      self.class.new(message, facts: facts.deep_merge("task" => { "url" => yield(facts.fetch("task").fetch("uuid")) }))
    end
  end

  # The database cannot be reached or used.
  class DatabaseError < Error; end

  # The database cannot read something that it stores: a page, a long value or an index is damaged, or a file is missing.
  class UnreadableError < DatabaseError
    REMEDY = "see \"Damaged rows\" in docs/operations.md"
    private_constant :REMEDY

    # @api private
    # @param what [String] what is to be read: "the tags of task 5"
    # @param message [String] the database's
    def self.of(what, message) = new("#{what} cannot be read by the database: #{message}; #{REMEDY}")
  end

  # Tables or functions of the gem are missing in the database, or are those of another version of it.
  class FunctionsMissingError < DatabaseError; end

  # Nobody may use the engine's API and pages; the message says how they are opened.
  class ClosedError < Error; end

  # Nobody who is known to the application sent the request.
  class UnauthenticatedError < Error
    # @return [String] the `WWW-Authenticate` of the answer
    attr_reader :challenge

    def initialize(challenge)
      super("tell who you are: #{challenge}")
      @challenge = challenge
    end
  end

  # Somebody who is known may not do this.
  class ForbiddenError < Error
    def initialize(action, resource)
      super("you may not #{action} #{resource}", facts: { "action" => action.to_s, "resource" => resource.to_s })
    end
  end

  # The extension is not built.
  class NativeMissingError < Error; end

  # The lease of an attempt is gone: its outcome changes nothing any more.
  class StaleAttemptError < Error; end

  # The orchestrator has stopped and takes nothing more.
  class StoppedError < Error; end

  # A fault of the gem, never of its caller.
  class InternalError < Error; end

  # {Task#wait} waited for as long as it was told to.
  class WaitTimeoutError < Error; end

  # What a handler raises to say how it failed. Any other exception counts as retryable.
  class ProceduralError < Error; end

  # The attempt failed and another may succeed.
  class RetryableError < ProceduralError
    # @return [Numeric, nil] seconds until the next attempt
    attr_reader :retry_after

    # @param retry_after [Numeric, ActiveSupport::Duration, nil] seconds until the next attempt, as a server asked
    #   for; wins over the step's retry policy
    def initialize(message = nil, retry_after: nil, **facts)
      super(message, **facts)
      @retry_after = retry_after
    end
  end

  # An attempt failed without an exception of this process: it was lost with its process, or its result could not be stored. Only
  # reported to `Rails.error`, never raised.
  class AttemptFailedError < Error
    # @api private
    # @param error [Hash{String => Object}] class, message and code, as events have it
    def self.of(error)
      facts = error.to_h.transform_keys(&:to_s)
      new(facts.values_at("class", "message").compact.join(": "), facts: facts)
    end
  end

  # The attempt took longer than the step's time limit.
  class TimeoutError < RetryableError; end

  # No attempt will ever succeed: the step ends at once.
  class PermanentError < ProceduralError
    # @return [String, nil] a word for programs, kept with the step's error
    attr_reader :code

    def initialize(message = nil, code: nil, **facts)
      super(message, **facts)
      @code = code
    end
  end
end
