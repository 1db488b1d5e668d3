# frozen_string_literal: true

# Bodies and parameters of every operation that takes any.
RSpec.describe "Bodies and parameters of the API" do
  let(:task) { Line.create!(n: 2) }

  def operations = Contract.current.operations

  def path(operation)
    values = { "task" => task.uuid, "step" => "a", "namespace" => "default", "name" => "line",
               "version" => task.workflow_version.version }
    operation.url(values).delete_prefix(Contract::ROOT)
  end

  def each_with_body(&block) = operations.select(&:body?).each(&block)

  it "must be JSON objects" do
    each_with_body do |operation|
      ["{", "[1]", "7", "null", "{\"a\":NaN}", "{\"a\":\"\xFF\"}", "[" * 100_000,
       "#{'{"a":' * 300}1#{'}' * 300}"].each do |body|
        expect(api(operation.verb, path(operation), body))
          .to include("status" => 400, "type" => "urn:tasker-core:malformed-request")
      end
    end
  end

  it "must be declared as JSON, which other sites cannot send" do
    each_with_body do |operation|
      ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
       "application/jsonx"].each do |type|
        problem = api(operation.verb, path(operation), "{\"reason\":\"why\"}", "Content-Type" => type)
        expect(problem).to include("status" => 415, "detail" => %r{must be application/json})
      end
    end
    expect(api(:post, "/tasks/#{task.id}/cancel", "{\"reason\":\"why\"}", "Content-Type" => ""))
      .to include("status" => 400)
    expect(api(:post, "/tasks", "{\"workflow\":\"three\"}",
               "Content-Type" => "application/vnd.api+json; charset=utf-8")).to include("workflow" => "three")
  end

  it "are not read without a content type" do
    environment = Rack::MockRequest.env_for("/tasker/api/v1/tasks/#{task.id}/cancel",
                                            method: "POST", input: %({"reason":"why"}))
    environment.delete("CONTENT_TYPE")
    status, _, body = Rails.application.call(environment)
    expect([status, task.reload.state]).to eq [415, "pending"]
    expect(body.each.to_a.join).to include("must be application/json")
  end

  it "are limited to api.body_bytes, whatever length is declared" do
    with_settings(api: { body_bytes: 1024 })
    long = JSON.generate(reason: "x" * 1024)
    each_with_body do |operation|
      [{}, { "Content-Length" => "10" }].each do |headers|
        expect(api(operation.verb, path(operation), long, **headers))
          .to include("status" => 413, "detail" => /longer than 1024 bytes: api.body_bytes/)
      end
    end
    expect(api(:post, "/tasks/#{task.id}/cancel", JSON.generate(reason: "x" * 1011))).to include("state" => "cancelled")
  end

  it "appear neither in the log nor in Rails' parameters" do
    payloads = []
    ActiveSupport::Notifications.subscribed(->(*, payload) { payloads << payload[:params] },
                                            "process_action.action_controller") do
      api(:post, "/tasks", { workflow: "line", input: { n: 4711 } })
    end
    expect(payloads).to eq [{ controller: "tasker_core/v1/tasks", action: "create" }]
  end

  it "are rejected with an unknown parameter" do
    operations.select { |operation| operation.verb == "get" }.reject(&:open?).each do |operation|
      problem = api(:get, "#{path(operation)}?afte=1")
      expect(problem)
        .to include("status" => 400, "problems" => [include("field" => "afte", "message" => /is an unknown parameter/)])
    end
    each_with_body do |operation|
      ["why", nil].each do |value|
        problem = api(operation.verb, path(operation), { reasn: value })
        expect(problem)
          .to include("status" => 400,
                      "problems" => [include("field" => "reasn", "message" => /is an unknown parameter/)])
      end
    end
  end

  it "are not combined with the query string" do
    each_with_body do |operation|
      problem = api(operation.verb, "#{path(operation)}?priority=5",
                    { reason: "why", workflow: "line", input: { n: 2 }, result: {} })
      expect(problem)
        .to include("status" => 400, "problems" => [include("field" => "priority",
                                                            "message" => "is an unknown parameter: there are none")])
    end
    expect(TaskerCore::Task.all).to eq [task]
  end
end
