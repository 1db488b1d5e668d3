# frozen_string_literal: true

require "json_schemer"

# Compares the API's description with the responses in request specs: every response must match it, and after all
# request specs every described response must have occurred.
class Contract
  ROOT = "/tasker/api/v1"
  # A method and a path of the description.
  Operation = Struct.new(:verb, :path, :description) do
    def id = description.fetch("operationId")
    def body? = description.key?("requestBody")
    def open? = description["security"] == []
    def statuses = description.fetch("responses").keys

    # @param values [Hash{String => String}] of the variables in the path
    def url(values) = "#{ROOT}#{path.gsub(/\{(\w+)\}/) { values.fetch(Regexp.last_match(1)) }}"

    def match?(verb, path) = self.verb == verb && path.match?(pattern)

    def pattern = @pattern ||= /\A#{ROOT}#{path.gsub('.', '\.').gsub(/\{\w+\}/, '[^/]+')}\z/
  end

  class << self
    def current = @current ||= new
  end

  attr_reader :document, :operations, :seen

  def initialize
    @document = TaskerCore::HTTP::ApiDescription.to_h
    @schemas = JSONSchemer.openapi(@document)
    @operations = @document["paths"].flat_map do |path, verbs|
      verbs.except("parameters").map { |verb, description| Operation.new(verb, path, description) }
    end
    @seen = Set.new
  end

  def problems = @schemas.validate.map { |error| error["error"] }

  # Records a response and fails the test if it does not match. A request without an operation must return a problem.
  def check(request, response)
    operation = operations.find { |one| one.match?(request.method.downcase, request.path) }
    return check_unknown(request, response) unless operation

    status = response.status.to_s
    described = resolve(operation.description["responses"][status]) || raise("#{operation.id} does not describe " \
                                                                             "#{status}: #{response.body}")
    seen << [operation.id, status]
    check_headers(operation, described, response)
    check_body(operation, described, response)
    check_request(operation, request) if response.successful?
  end

  # @return [Array<String>] described responses that did not occur
  def missing_responses
    all = operations.flat_map { |operation| operation.statuses.map { |status| [operation.id, status] } }
    (all - seen.to_a).map { |id, status| "#{id} #{status}" }
  end

  private

  def check_unknown(request, response)
    raise "#{request.method} #{request.path} is not described, but returns #{response.status}" if response.successful?

    validate({ "$ref" => "#/components/schemas/Problem" }, JSON.parse(response.body), "a path that is not described")
  end

  def check_headers(operation, described, response)
    required = described.fetch("headers", {}).select { |_, header| resolve(header)["required"] }.keys
    missing = required.reject { |name| response.headers[name] }
    raise "#{operation.id} #{response.status} has no #{missing.join(', ')}" if missing.any?
    raise "#{operation.id} sets a cookie" if response.headers["Set-Cookie"]
  end

  def check_body(operation, described, response)
    type = response.media_type[/[^;]+/]
    content = described.fetch("content").fetch(type) { raise "#{operation.id} #{response.status} is no #{type}" }
    return unless type.end_with?("json")

    validate(content.fetch("schema"), JSON.parse(response.body), "#{operation.id} #{response.status}")
  end

  def check_request(operation, request)
    return unless operation.body?

    schema = operation.description["requestBody"]["content"]["application/json"]["schema"]
    validate(schema, JSON.parse(request.raw_post), "the request of #{operation.id}")
  end

  def validate(schema, value, what)
    errors = JSONSchemer.schema({ **schema, "components" => document["components"] },
                                meta_schema: JSONSchemer::OpenAPI31::BASE_URI.to_s)
                        .validate(value).map { |error| error["error"] }
    raise "#{what}: #{errors.first(3).join('; ')}: #{value}" if errors.any?
  end

  def resolve(part)
    reference = part && part["$ref"]
    reference ? document.dig(*reference.delete_prefix("#/").split("/")) : part
  end

  # Checks every request of a spec.
  module Session
    def process(...)
      super.tap { Contract.current.check(request, response) if request.path.start_with?(ROOT) }
    end
  end
end

ActionDispatch::Integration::Session.prepend(Contract::Session)

# Helpers for request specs of the API.
module ApiRequests
  def api(verb, path, body = nil, **headers)
    body = JSON.generate(body) unless body.nil? || body.is_a?(String)
    options = { params: body }.compact
    headers = { "Content-Type" => "application/json", **headers } if body
    public_send(verb, "#{Contract::ROOT}#{path}", headers: headers, **options)
    response.media_type.end_with?("json") ? JSON.parse(response.body) : response.body
  end

  def with_settings(**sections)
    @own_settings ||= TaskerCore.config
    allow(TaskerCore).to receive(:config).and_return(@own_settings.with(sections))
  end

  # Connects to a port without a server.
  def without_database
    TaskerCore::ApplicationRecord.establish_connection(adapter: "postgresql", host: "127.0.0.1", port: 1,
                                                       connect_timeout: 1)
    yield
  ensure
    TaskerCore::ApplicationRecord.remove_connection
  end

  def in_environment(name)
    before = Rails.env
    Rails.env = name
    yield
  ensure
    Rails.env = before
  end
end

RSpec.configure do |config|
  config.include ApiRequests, type: :request
  config.define_derived_metadata(file_path: %r{/spec/requests/}) { |metadata| metadata[:type] = :request }
  # Each test sets its own authentication and authorization.
  config.before(type: :request) { TaskerCore.reset_access! }
  config.after(type: :request) { TaskerCore.reset_access! }

  # Before any example adds an action of its own.
  config.before(:suite) { Contract.current }

  config.after(:suite) do
    all = Dir["#{__dir__}/../requests/*_spec.rb"].map { |path| File.expand_path(path) }
    skipped = all - config.files_to_run.map { |path| File.expand_path(path) }
    whole = skipped.empty? && config.inclusion_filter.rules.empty?
    next unless whole && RSpec.world.reporter.failed_examples.empty?

    missing_responses = Contract.current.missing_responses
    next if missing_responses.empty?

    raise "config/openapi.yaml describes what no request spec has seen: #{missing_responses.join(', ')}"
  end
end
