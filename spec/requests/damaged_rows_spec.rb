# frozen_string_literal: true

# Lists, pages and actions on tasks of which the database cannot read something.
RSpec.describe "Damaged rows" do
  let!(:sound) { Line.set(tags: %w[red]).create!(n: 1) }
  let!(:damaged) { Line.set(tags: %w[red]).create!(n: 1).tap { |task| damage(task) } }

  def text = Nokogiri::HTML5(response.body).at("main").text.squish

  def lose_input = lose("tasker_task_inputs", "input = #{Damage::LONG}, input_bytes = 1000", "task_id = #{damaged.id}")

  describe "in the API" do
    it "hides no task from a list, and names what cannot be read" do
      ["/tasks", "/tasks?tags=red"].each do |path|
        tasks = api(:get, path)["tasks"]
        expect(tasks.map { |task| task.values_at("id", "tags", "unreadable") })
          .to eq [[damaged.id, nil, ["tags"]], [sound.id, ["red"], nil]]
      end
      lose_input
      tasks = api(:get, "/tasks?input=#{CGI.escape('{"n":1}')}&workflow=line")["tasks"]
      expect(tasks.map { |task| task.values_at("id", "unreadable") })
        .to eq [[damaged.id, %w[input tags]], [sound.id, nil]]
    end

    it "shows the rest of a task" do
      lose_input
      lose("tasker_workflow_steps", "result = #{Damage::LONG}, result_bytes = 1000, state = 'complete'",
           "task_id = #{damaged.id} and position = 0")
      lose("tasker_workflow_steps", "last_error = #{Damage::LONG}", "task_id = #{damaged.id} and position = 1")
      json = api(:get, "/tasks/#{damaged.id}")
      expect(json).to include("tags" => nil, "input" => nil, "unreadable" => %w[tags input])
      expect(json["steps"][0]).to include("result" => nil, "unreadable" => ["result"])
      expect(json["steps"][1]["error"]).to include("code" => "XX001", "message" => /the database cannot read the error/)
    end

    it "shows the rest of a workflow" do
      lose("tasker_workflow_versions", "definition = #{Damage::LONG}", "id = #{damaged.workflow_version_id}")
      expect(api(:get, "/workflows")["workflows"].first)
        .to include("name" => "line", "description" => nil, "unreadable" => ["description"])
      expect(api(:get, "/workflows/#{Line.namespace}/line/#{Line.version}"))
        .to include("steps" => Line.compiled.step_names.size, "definition" => nil,
                    "unreadable" => %w[description definition])
      expect(api(:get, "/tasks/#{damaged.id}/graph")["nodes"].size).to eq Line.compiled.step_names.size
    end

    it "says that the database cannot read a page, and what helps" do
      with_unreadable_list do
        detail = "something that the request needs cannot be read by the database: invalid page in block 7; " \
                 'see "Damaged rows" in docs/operations.md'
        expect(api(:get, "/tasks", status: 500))
          .to include("type" => "urn:tasker-core:unreadable", "code" => "XX001", "detail" => detail)
      end
    end

    it "cancels a task" do
      expect(api(:post, "/tasks/#{damaged.id}/cancel", { reason: "damaged" }))
        .to include("state" => "cancelled", "unreadable" => ["tags"])
    end
  end

  describe "in the dashboard" do
    it "hides no task from the list" do
      ["/tasker/tasks", "/tasker/tasks?tags=red"].each do |path|
        get path
        expect([response.status, text]).to match [200, /\b#{damaged.id} .*tags cannot be read.*\b#{sound.id} .* red /]
      end
    end

    it "shows the rest of a workflow" do
      lose("tasker_workflow_versions", "definition = #{Damage::LONG}", "id = #{damaged.workflow_version_id}")
      ["/tasker/workflows", "/tasker/workflows/#{damaged.workflow_version_id}"].each do |path|
        get path
        expect([response.status, text]).to match [200, /the definition of .*line.* cannot be read by the database/]
      end
    end

    it "says that the database cannot read a page, and what helps" do
      with_unreadable_list { get "/tasker/tasks" }
      expect([response.status, text]).to match [500, /invalid page in block 7; see "Damaged rows" in docs/]
    end

    it "shows the rest of a task, and cancels it" do
      lose_input
      get "/tasker/tasks/#{damaged.id}"
      expect(response.status).to eq 200
      expect(text).to match(/the tags of task #{damaged.id} cannot be read by the database: missing chunk/)
        .and match(/the input of task #{damaged.id} cannot be read/)
      get "/tasker/tasks/#{damaged.id}/cancel"
      form = Nokogiri::HTML5(response.body).at("main form[method=post]")
      token = form.at("input[name=authenticity_token]")["value"]
      post form["action"], params: { authenticity_token: token, reason: "damaged" }
      expect([response.status, damaged.state]).to eq [303, "cancelled"]
    end
  end
end
