# frozen_string_literal: true

RSpec.describe "Tasks of the API" do
  def uuids = response.parsed_body["tasks"].map { |task| task["uuid"] }

  def failed(workflow = Three)
    workflow.create!.tap { |task| with_worker { eventually { task.steps.any? { |step| step.state == "error" } } } }
  end

  describe "creation" do
    it "accepts every attribute and returns the location" do
      json = api(:post, "/tasks",
                 { namespace: "default", workflow: "line", input: { n: 2**70 }, idempotency_key: "one", priority: -3,
                   wait_until: 1.hour.from_now.iso8601, tags: %w[red blue],
                   correlation_id: "0190163d-8694-739b-aea5-966c26f8ad91" })
      expect(response).to have_http_status(201)
      task = TaskerCore::Task.lookup(json["uuid"])
      expect(json).to include("id" => task.id, "workflow" => "line", "state" => "pending",
                              "execution_status" => "scheduled",
                              "priority" => -3, "tags" => %w[red blue],
                              "correlation_id" => "0190163d-8694-739b-aea5-966c26f8ad91")
      expect(task).to have_attributes(input: { "n" => 2**70 }, idempotency_key: "one")
      expect(task.step(:a)).to have_attributes(state: "waiting", waiting_reason: "delay")
      expect(response.location).to eq "http://www.example.com/tasker/api/v1/tasks/#{task.uuid}"
      get response.location
      expect(response.parsed_body)
        .to include("uuid" => task.uuid, "idempotency_key" => "one", "input" => { "n" => 2**70 })
    end

    it "uses the request's correlation id" do
      json = api(:post, "/tasks", { workflow: "three" }, "X-Correlation-ID" => "0190163d-8694-739b-aea5-966c26f8ad92")
      expect(json["correlation_id"]).to eq "0190163d-8694-739b-aea5-966c26f8ad92"
    end

    it "returns the first task for a taken idempotency key" do
      first = Line.set(idempotency_key: "one").create!(n: 1)
      json = api(:post, "/tasks", { workflow: "line", input: { n: 2 }, idempotency_key: "one" })
      expect(json).to include("status" => 409, "type" => "urn:tasker-core:idempotency-key-taken",
                              "task" => { "id" => first.id, "uuid" => first.uuid,
                                          "url" => "http://www.example.com/tasker/api/v1/tasks/#{first.uuid}" })
      expect(TaskerCore::Task.count).to eq 1
    end

    {
      { workflow: "line", input: { n: "two" } } => ["n", '"two"', "string", /is not of type "integer"/],
      { workflow: "line", input: {} } => ["n", "null", "nothing", /is missing: the workflow requires it/],
      { workflow: "lin", input: { n: 2 } } => ["workflow", "lin", "String",
                                               /there is no workflow default.lin: did you mean/],
      { workflow: "line", input: { n: 2 }, priority: 40_000 } => ["priority", "40000", "Integer",
                                                                  /an integer from -32768 to 32767/],
      { workflow: "flaky", input: { kind: "a\0b" } } => ["kind", "null", "nothing", /has a null character/],
      { workflow: "line", input: { n: 2 }, correlation_id: "x" } => ["correlation_id", "x", "String", /a UUID/],
      { workflow: "line", input: { n: 2 },
        idempotency_key: "x" * 1001 } => ["idempotency_key", /xxx/, "String", /up to 1000 bytes/]
    }.each do |body, (field, value, kind, message)|
      it "rejects invalid values: #{body.to_s.truncate(100).delete("\0")}" do
        json = api(:post, "/tasks", body)
        expect(json).to include("status" => 422, "type" => "urn:tasker-core:input-refused")
        expect(json["problems"]).to match [{ "field" => field, "value" => value, "kind" => kind, "message" => message }]
        expect(TaskerCore::Task.count).to eq 0
      end
    end

    {
      { workflow: "line", inputs: { n: 2 } } => ["inputs", /unknown parameter: did you mean input\?/],
      { input: { n: 2 } } => ["workflow", /is missing: name the workflow/],
      { workflow: 5 } => ["workflow", /must be letters/],
      { workflow: "../Kernel" } => ["workflow", /must be letters/],
      { workflow: "line", input: [1] } => ["input", /must be an object/],
      { workflow: "line", priority: "5" } => ["priority", /must be an integer/],
      { workflow: "line", wait_until: "9999999-01-01T00:00:00Z" } => ["wait_until", /must be a time such as/],
      { workflow: "line", wait_until: "tomorrow" } => ["wait_until", /must be a time such as/],
      { workflow: "line", tags: "red" } => ["tags", /must be an array of strings/],
      { workflow: "line", tags: [1] } => ["tags", /must be an array of strings/],
      { workflow: "line", idempotency_key: "a\0b" } => ["idempotency_key", /must be a string without null characters/]
    }.each do |body, (field, message)|
      it "rejects unknown or malformed parameters: #{body.to_s.delete("\0")}" do
        json = api(:post, "/tasks", body)
        expect(json).to include("status" => 400, "type" => "urn:tasker-core:parameter-refused")
        expect(json["problems"]).to match [include("field" => field, "message" => message)]
        expect(TaskerCore::Task.count).to eq 0
      end
    end

    it "shows a malformed list as it was given" do
      json = api(:post, "/tasks", { workflow: "line", idempotency_key: ["red"] })
      message = "must be a string without null characters"
      expect(json["problems"]).to match [include("value" => '["red"]', "kind" => "Array", "message" => message)]
    end

    it "hides filtered values in its errors" do
      json = api(:post, "/tasks", { workflow: "relay", input: { card: 4711 } })
      expect(json).to include("status" => 422)
      expect(response.body).to include("card").and match(/FILTERED/)
      expect(response.body).not_to include("4711")
    end
  end

  describe "the list" do
    let!(:tasks) { %w[red blue red].map { |colour| Line.set(tags: [colour, "square"]).create!(n: 2) } }
    let!(:three) { Three.set(correlation_id: "0190163d-8694-739b-aea5-966c26f8ad91").create! }

    it "shows the newest first, by each filter" do
      {
        "" => [three, *tasks.reverse], "?workflow=line" => tasks.reverse, "?workflow=line&namespace=elsewhere" => [],
        "?tags=red&tags=square" => [tasks[2], tasks[0]], "?tags[]=red&tags[]=blue" => [], "?state=complete,error" => [],
        "?state=pending&state=error" => [three, *tasks.reverse],
        "?correlation_id=0190163D-8694-739b-aea5-966c26f8ad91" => [three],
        "?version=#{CGI.escape(three.workflow_version.version)}" => [three],
        "?since=1h&until=#{1.hour.from_now.utc.iso8601}" => [three, *tasks.reverse],
        "?until=1h" => [], "?input=#{CGI.escape('{"n":2}')}" => tasks.reverse
      }.each do |query, found|
        api(:get, "/tasks#{query}")
        expect([query, uuids]).to eq [query, found.map(&:uuid)]
      end
    end

    it "continues after a page despite new tasks" do
      api(:get, "/tasks?limit=2&workflow=line")
      seen = uuids
      link = response.headers["Link"][/<(.*)>; rel="next"/, 1]
      expect(link)
        .to eq "http://www.example.com/tasker/api/v1/tasks?limit=2&workflow=line&after=#{response.parsed_body['next']}"
      Line.create!(n: 5)
      get link
      expect(seen + uuids).to eq tasks.reverse.map(&:uuid)
      expect(response.parsed_body["next"]).to be_nil
      expect(response.headers).not_to include("Link")
    end

    it "continues after a page that was requested with after[]" do
      api(:get, "/tasks?limit=1&workflow=line&after[]=#{tasks.last.uuid}")
      get response.headers["Link"][/<(.*)>; rel="next"/, 1]
      expect(uuids).to eq [tasks.first.uuid]
    end

    it "follows the configured page sizes" do
      with_settings(api: { page_size: 2 })
      api(:get, "/tasks")
      expect(uuids.size).to eq 2
      with_settings(api: { page_size: 3, max_page_size: 3 })
      api(:get, "/tasks")
      expect(uuids.size).to eq 3
      api(:get, "/tasks?limit=3")
      expect(uuids.size).to eq 3
      json = api(:get, "/tasks?limit=4")
      expect(json["problems"])
        .to match [include("field" => "limit", "value" => "4",
                           "message" => "must be 1 to 3: api.max_page_size is the limit")]
      expect(response).to have_http_status(400)
    end

    it "limits the scan for a page and returns where to continue" do
      with_settings(api: { scan_limit: 100 })
      Line.create_all!([{ n: 3 }] * 100)
      api(:get, "/tasks?input=#{CGI.escape('{"n":2}')}")
      expect(uuids).to eq []
      api(:get, "/tasks?input=#{CGI.escape('{"n":2}')}&after=#{response.parsed_body['next']}")
      expect(uuids).to eq tasks.reverse.map(&:uuid)
    end

    {
      "stat=error" => ["stat", /unknown parameter: did you mean state\?/],
      "state=eror" => ["state", /must be one or more of pending/],
      "state=" => ["state", /must be one or more of/], "since=yesterday" => ["since", /must be a time such as/],
      "correlation_id=x" => ["correlation_id", /must be a UUID/], "input=7" => ["input", /must be a JSON object/],
      "input=%7B" => ["input", /must be a JSON object/], "limit=0" => ["limit", /must be 1 to 200/],
      "limit=-1" => ["limit", /must be a number/],
      "limit=" => ["limit", /must be a number/], "limit=1&limit=2" => ["limit", /must be a number/],
      "after=7" => ["after", /must be the `next`/],
      "workflow=a&workflow=b" => ["workflow", /must be one text/], "workflow=a%00" => ["workflow", /must be one text/],
      "=" => ["", /unknown parameter/]
    }.each do |query, (field, message)|
      it "rejects #{query}" do
        expect(api(:get, "/tasks?#{query}"))
          .to include("status" => 400, "problems" => [include("field" => field, "message" => message)])
      end
    end

    it "rejects unreadable query strings and headers" do
      expect(api(:get, "/tasks?workflow=%FF"))
        .to include("status" => 400, "type" => "urn:tasker-core:malformed-request")
      expect(api(:get, "/tasks?a[b]=1&a=2")).to include("status" => 400)
      expect(api(:get, "/tasks", nil, "Accept" => "!!"))
        .to include("status" => 400, "type" => "urn:tasker-core:malformed-request")
    end
  end

  describe "a single task" do
    it "is shown by uuid or number, with steps and operator events" do
      task = failed
      task.step(:hopeless).resolve!(reason: "found it", by: "ada")
      expect(api(:get, "/tasks/#{task.id}").except("elapsed_ms"))
        .to eq api(:get, "/tasks/#{task.uuid.upcase}").except("elapsed_ms")
      json = response.parsed_body
      expect(json["steps"].map { |step| step.values_at("name", "state") })
        .to eq [%w[well complete], %w[hopeless resolved_manually], %w[patient waiting]]
      expect(json["events"])
        .to match [include("action" => "resolve", "step" => "hopeless", "by" => "ada", "reason" => "found it")]
      expect(json["next_step"]).to be_nil
    end

    it "shows one page of steps and where the next begins" do
      with_settings(api: { page_size: 3, max_page_size: 3 })
      task = Line.create!(n: 2)
      json = api(:get, "/tasks/#{task.id}")
      expect(json["steps"].map { |step| step["name"] }).to eq %w[a b c]
      expect(api(:get, "/tasks/#{task.id}/steps?after=#{json['next_step']}")["steps"].map { |step| step["name"] })
        .to eq %w[d]
    end

    it "responds with 404 when it does not exist" do
      %w[%00 7%00 7x].each { |odd| expect(api(:get, "/tasks/#{odd}")).to include("status" => 404) }
      expect(api(:get, "/tasks/77")).to include("status" => 404, "detail" => /there is no task 77/)
      expect(api(:get, "/tasks/#{SecureRandom.uuid}")).to include("status" => 404)
      %w[attempts graph].each { |what| expect(api(:get, "/tasks/77/#{what}")).to include("status" => 404) }
      %w[cancel retry resolve].each do |action|
        expect(api(:post, "/tasks/77/#{action}", { reason: "why" })).to include("status" => 404)
      end
    end

    it "is cancelled once" do
      task = Line.create!(n: 2)
      expect(api(:post, "/tasks/#{task.uuid}/cancel", { reason: "not wanted" }))
        .to include("state" => "cancelled", "uuid" => task.uuid)
      expect(task.reload.events.sole).to have_attributes(action: "cancel", actor: "api", reason: "not wanted")
      json = api(:post, "/tasks/#{task.uuid}/cancel", { reason: "not wanted" })
      expect(json)
        .to include("status" => 409, "type" => "urn:tasker-core:transition-refused", "state" => "cancelled",
                    "action" => "cancel", "task" => task.id)
    end

    it "is retried only if a step has failed or waits" do
      task = failed
      counts = ->(reason) { api(:post, "/tasks/#{task.id}/retry", { reason: reason })["counts"] }
      expect(counts.call("repaired")).to include("failed" => 0, "waiting" => 1)
      expect(counts.call("no need to wait")).to include("waiting" => 0, "ready" => 2)
      expect(api(:post, "/tasks/#{task.id}/retry", { reason: "again" })).to include("status" => 409)
    end

    it "is resolved only after it ended with an error" do
      task = failed(Repairable)
      eventually { task.ended? }
      expect(api(:post, "/tasks/#{task.id}/resolve", { reason: "settled" }))
        .to include("state" => "resolved_manually")
      expect(api(:post, "/tasks/#{task.id}/resolve", { reason: "settled" })).to include("status" => 409)
    end

    it "stays unchanged without a reason" do
      task = failed(Repairable)
      %w[retry resolve].each do |action|
        [{}, { reason: nil }, { reason: " " }].each do |body|
          json = api(:post, "/tasks/#{task.id}/#{action}", body)
          expect(json)
            .to include("status" => 422, "problems" => [{ "field" => "reason", "message" => /is blank: give/ }])
        end
      end
      expect(api(:post, "/tasks/#{Line.create!(n: 2).id}/cancel")).to include("status" => 422)
      expect(api(:post, "/tasks/#{task.id}/retry", { reason: 5 })).to include("status" => 400)
      expect(api(:post, "/tasks/#{task.id}/retry", { reason: "why", by: "bob" })).to include("status" => 400)
      expect(task.events).to be_empty
    end

    it "explains why it waits" do
      task = failed
      json = api(:get, "/tasks/#{task.id}/why")
      expect(json).to include("task" => task.id, "summary" => /hopeless failed permanently/)
      expect(json["reasons"].map { |reason| reason.values_at("step", "kind") })
        .to eq [%w[hopeless error], %w[patient retry]]
      expect(api(:get, "/tasks/77/why")).to include("status" => 404)
    end

    it "is drawn in each format" do
      task = failed
      json = api(:get, "/tasks/#{task.id}/graph")
      expect(json["nodes"].map { |node| node.values_at("name", "state") })
        .to eq [%w[well complete], %w[hopeless error], %w[patient waiting]]
      expect(api(:get, "/tasks/#{task.id}/graph?format=json")).to eq json
      expect(api(:get, "/tasks/#{task.id}/graph?format=mermaid")).to eq TaskerCore::Graph.of_task(task).to_mermaid
      expect(api(:get, "/tasks/#{task.id}/graph?format=text")).to eq TaskerCore::Graph.of_task(task).to_text
      expect(api(:get, "/tasks/#{task.id}/graph?format=svg")).to eq TaskerCore::Graph.of_task(task).to_svg
      expect(response.headers)
        .to include("Content-Type" => "image/svg+xml; charset=utf-8",
                    "Content-Security-Policy" => /default-src 'none'.*sandbox/)
      expect(api(:get, "/tasks/#{task.id}/graph?format=png"))
        .to include("status" => 400, "detail" => /must be one of json, mermaid, svg, text/)
    end

    it "lists its attempts in pages" do
      task = failed
      first = api(:get, "/tasks/#{task.id}/attempts?limit=2")
      rest = api(:get, "/tasks/#{task.id}/attempts?limit=2&after=#{first['next']}")
      all = first["attempts"] + rest["attempts"]
      expect(all.map { |attempt| attempt.values_at("step", "outcome") })
        .to contain_exactly(%w[well completed], %w[hopeless failed], %w[patient failed])
      expect(rest["next"]).to be_nil
    end
  end
end
