# frozen_string_literal: true

# The exceptions of tasker_core. The extension raises them by name, each with a message and its facts.
module TaskerCore
  # The root class: `rescue TaskerCore::Error` catches every exception of the gem.
  class Error < StandardError
    # @return [Hash{String => Object}] the values in the message, for programs
    attr_reader :facts

    # @api private called by the extension and by {Postgres::Functions}
    # @param message [String]
    # @param facts [String] JSON text
    def self.from_facts(message, facts) = new(message, facts: JSON.parse(facts))

    # @param message [String, nil]
    # @param facts [Hash{String => Object}]
    def initialize(message = nil, facts: {})
      super(message)
      @facts = facts
    end

    # @return [Array<Hash{String => String}>] each with "field", "value", "kind" (the value's type) and "message"
    def problems = facts.fetch("problems", [])
  end

  # A setting is unknown, of the wrong type, or out of range.
  class ConfigurationError < Error; end

  # A workflow cannot be compiled, or its file cannot be read.
  class WorkflowError < Error; end

  # The version is registered with another content: the changed workflow needs a new version.
  class WorkflowConflictError < WorkflowError; end

  # The workflow, or this version of it, is not registered.
  class UnknownWorkflowError < WorkflowError; end

  # A value from the caller is invalid: a task's input or one of its options, a payload, the reason of an action, a
  # filter.
  class InputError < Error
    LONGEST_VALUE = 500
    private_constant :LONGEST_VALUE

    # @api private
    # @param field [String, Symbol]
    # @param value [Object]
    # @param remedy [String] "must be a UUID"
    def self.of(field, value, remedy)
      problem = { "field" => field.to_s, "value" => value.to_s.truncate(LONGEST_VALUE), "kind" => value.class.name,
                  "message" => remedy }
      new("#{field}: #{value.inspect.truncate(LONGEST_VALUE)} (#{value.class}) #{remedy}",
          facts: { "problems" => [problem] })
    end

    # @api private
    # @param what [String] the value: "the payload of order.shipped"
    # @param error [Support::JsonValue::Unwritable]
    def self.unwritable(what, error)
      new("#{what}: cannot be written as JSON: #{error.message}",
          facts: { "problems" => [{ "field" => error.path, "message" => error.message }] })
    end

    # @api private
    # @param logging [Logging]
    # @return [InputError] without values that are filtered from logs, since an exception's message may be logged
    def filtered(logging)
      return self unless logging.filtering? && problems.all? { |problem| problem.key?("value") }

      hidden = problems.to_h { |problem| [problem, shown(problem, logging)] }
      message = hidden.reduce(self.message) do |text, (problem, value)|
        text.gsub(": #{problem['value']} (", ": #{value} (")
      end
      problems = hidden.map { |problem, value| problem.merge("value" => value) }
      self.class.new(message, facts: facts.merge("problems" => problems))
    end

    private

    def shown(problem, logging)
      return "…" if %w[object array].include?(problem["kind"]) # its members may have filtered names

      problem["field"].to_s.scan(/[^.\[\]]+/).any? { |name| logging.filters?(name) } ? "[FILTERED]" : problem["value"]
    end
  end

  # A parameter of a request is unknown, or has a value of another type.
  class ParameterError < InputError; end

  # A request cannot be read.
  class RequestError < Error; end

  # A request's body is longer than `api.body_bytes`.
  class RequestTooLargeError < RequestError; end

  # The content type of a request's body is not JSON.
  class MediaTypeError < RequestError; end

  # The API has no such path, or not for this method.
  class UnknownResourceError < Error; end

  # The task or workflow has no such step; or a handler reads the result of a step that is not before its own.
  class UnknownStepError < Error
    # @api private
    # @param name [String, Symbol]
    # @param known [Array<String>] the existing names
    # @param what [String] the predicate: "is not a step of task 5"
    def self.of(name, known, what)
      new("#{name} #{what}: #{Support::Spelling.remedy(name, known)}", facts: { "step" => name.to_s, "known" => known })
    end
  end

  # An event's name is unknown or malformed, or a filter names a field that no event has.
  class UnknownEventError < Error; end

  # The task does not exist.
  class TaskNotFoundError < Error; end

  # The state of the task or step does not allow the action.
  class TransitionError < Error; end

  # A task with the same idempotency key exists: the same request was sent before, or one with another input.
  class IdempotencyConflictError < Error
    # @api private
    # @param task [Task] the first task with the key
    # @param url [String, nil] of that task
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

  # The database cannot read something that it stores: a page, a long value or an index is damaged, or a file is
  # missing.
  class UnreadableError < DatabaseError
    REMEDY = "see \"Damaged rows\" in docs/operations.md"
    private_constant :REMEDY

    # @api private
    # @param what [String] what is to be read: "the tags of task 5"
    # @param message [String] the database's
    # @param code [String] the SQL state
    def self.of(what, message, code)
      new("#{what} cannot be read by the database: #{message}; #{REMEDY}", facts: { "code" => code })
    end
  end

  # Tables or functions of the gem are missing in the database, or are those of another version of it.
  class FunctionsMissingError < DatabaseError; end

  # No authentication is set up for the engine's API and pages; the message says how to do it.
  class ClosedError < Error; end

  # The application cannot authenticate the sender of the request.
  class UnauthenticatedError < Error
    # @return [String] the `WWW-Authenticate` header of the response
    attr_reader :challenge

    # @param challenge [String]
    def initialize(challenge)
      super("authentication is required: #{challenge}")
      @challenge = challenge
    end
  end

  # The authenticated user may not do this.
  class ForbiddenError < Error
    # @param action [Symbol]
    # @param resource [Symbol]
    def initialize(action, resource)
      super("you may not #{action} #{resource}", facts: { "action" => action.to_s, "resource" => resource.to_s })
    end
  end

  # The extension is not built.
  class NativeMissingError < Error; end

  # The lease of an attempt has expired: its outcome is rejected.
  class StaleAttemptError < Error; end

  # The orchestrator has stopped.
  class StoppedError < Error; end

  # A defect of the gem.
  class InternalError < Error; end

  # The time limit of {Task#wait} has passed.
  class WaitTimeoutError < Error; end

  # The root class of the errors that handlers raise to decide whether the step is retried.
  class ProceduralError < Error; end

  # The attempt failed; the step is retried as its policy says.
  class RetryableError < ProceduralError
    # @return [Numeric, nil] seconds until the next attempt
    attr_reader :retry_after

    # @param message [String, nil]
    # @param retry_after [Numeric, ActiveSupport::Duration, nil] seconds until the next attempt, for instance as a
    #   server requests; takes precedence over the step's policy
    # @param facts [Hash] see {Error#initialize}
    def initialize(message = nil, retry_after: nil, **facts)
      super(message, **facts)
      @retry_after = retry_after
    end
  end

  # An attempt failed without an exception in this process: its process was lost, or its result could not be stored.
  # Reported to `Rails.error`, never raised.
  class AttemptFailedError < Error
    # @api private
    # @param error [Hash{String => Object}] class, message and code, as in events
    def self.of(error)
      facts = error.to_h.transform_keys(&:to_s)
      new(facts.values_at("class", "message").compact.join(": "), facts: facts)
    end
  end

  # The attempt took longer than the step's time limit.
  class TimeoutError < RetryableError; end

  # No further attempt can succeed: the step fails at once.
  class PermanentError < ProceduralError
    # @return [String, nil] a word for programs, stored with the step's error
    attr_reader :code

    # @param message [String, nil]
    # @param code [String, nil] a word for programs
    # @param facts [Hash] see {Error#initialize}
    def initialize(message = nil, code: nil, **facts)
      super(message, **facts)
      @code = code
    end
  end
end
