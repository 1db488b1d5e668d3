# frozen_string_literal: true

# Endpoints for tasks in an application's own controller.
RSpec.describe TaskerCore::TaskEndpoints do
  def body = response.parsed_body

  it "create a task from the schema's parameters and show it" do
    post "/lines", params: { n: 2**70, other: "x" }, as: :json
    expect(response).to have_http_status(201)
    task = TaskerCore::Task.lookup(body["uuid"])
    expect(task).to have_attributes(input: { "n" => 2**70 }, priority: 3)
    expect(response.location).to eq "http://www.example.com/lines/#{task.uuid}"
    own = body.except("elapsed_ms")
    get "/lines/#{task.id}"
    expect(response).to have_http_status(200)
    expect(body.except("elapsed_ms")).to eq(own)
    expect(api(:get, "/tasks").fetch("tasks")).to match [include(own)]
    get "/lines/#{task.id}?steps=1"
    expect(body)
      .to include(own).and include("steps" => [include("name" => "a"), anything, anything, anything],
                                   "input" => { "n" => 2**70 })
  end

  it "respond with the first task for a taken idempotency key" do
    post "/lines", params: { n: 2, order: "one" }, as: :json
    first = body
    post "/lines", params: { n: 2, order: "one" }, as: :json
    expect(response).to have_http_status(409)
    expect(response.media_type).to eq "application/problem+json"
    expect(body["task"])
      .to eq("id" => first["id"], "uuid" => first["uuid"], "url" => "http://www.example.com/lines/#{first['uuid']}")
    expect(response.location).to be_nil
  end

  it "respond with problem details for rejected requests" do
    post "/lines", params: { n: "two" }, as: :json
    expect(response).to have_http_status(422)
    expect(body["problems"]).to match [include("field" => "n", "message" => /is not of type "integer"/)]
    get "/lines/77"
    expect(response).to have_http_status(404)
    task = Line.create!(n: 2)
    post "/lines/#{task.id}/cancel", params: { reason: "not wanted" }, as: :json
    expect(response).to have_http_status(200)
    expect(body["state"]).to eq "cancelled"
    post "/lines/#{task.id}/cancel", params: { reason: "not wanted" }, as: :json
    expect(response).to have_http_status(409)
  end

  it "accept permitted parameters and plain hashes" do
    post "/lines/permitted", params: { n: 2, m: 3 }, as: :json
    expect(response).to have_http_status(422)
    expect(body["problems"]).to match [include("message" => /m/)]
    post "/lines/unnamed", params: { a: 1 }, as: :json
    expect(response).to have_http_status(500)
    expect(request.env["action_dispatch.exception"]).to be_a(ActionController::UnfilteredParameters)
    post "/lines/given"
    expect(response).to have_http_status(201)
    expect(TaskerCore::Task.last.input).to eq("n" => 7)
  end
end
