# frozen_string_literal: true

RSpec.describe "Steps of the API" do
  # The step well is complete, hopeless has failed, patient waits.
  let(:three) do
    Three.create!.tap { |task| with_worker { eventually { task.steps.map(&:state) == %w[complete error waiting] } } }
  end

  def step(action, name, body = nil, task: three, method: :post)
    api(method, ["/tasks/#{task.uuid}/steps/#{name}", action].compact.join("/"), body)
  end

  it "are listed in pages, parents first" do
    task = Line.create!(n: 2)
    first = api(:get, "/tasks/#{task.id}/steps?limit=3")
    expect(first["steps"].map { |one| one.values_at("name", "depends_on") })
      .to eq [["a", []], ["b", ["a"]], ["c", ["b"]]]
    rest = api(:get, "/tasks/#{task.id}/steps?limit=3&after=#{first['next']}")
    expect(rest["steps"].map { |one| one["name"] }).to eq ["d"]
    expect(rest["next"]).to be_nil
    with_settings(api: { page_size: 2 })
    expect(api(:get, "/tasks/#{task.id}/steps")["steps"].size).to eq 2
    expect(api(:get, "/tasks/#{task.id}/steps?after=x")).to include("status" => 400)
  end

  it "are listed on shorter pages when their results are long" do
    task = Line.create!(n: 2)
    %w[a b c d].zip([200, 700, 3000, 100]) do |name, size|
      task.step(name).complete!({ text: "x" * size }, reason: "why", by: "ada")
    end
    stub_const("TaskerCore::StoredResults::BYTES", 1000)
    first = api(:get, "/tasks/#{task.id}")
    expect([first["steps"].map { |one| one["name"] }, first["next_step"]]).to eq [%w[a b], 1]
    following = api(:get, "/tasks/#{task.id}/steps?after=1")
    expect([following["steps"].map { |one| one["result"]["text"].size }, following["next"]]).to eq [[3000], 2]
    expect(api(:get, "/tasks/#{task.id}/steps?after=2")).to include("next" => nil, "steps" => [include("name" => "d")])
  end

  it "are shown with their attempts" do
    body = step(nil, "hopeless", method: :get)
    expect(body).to include("state" => "error", "attempts" => 1, "error" => include("code" => "unknown_article"))
    expect(body["executions"]).to match [include("attempt" => 1, "outcome" => "failed")]
    expect(step("attempts", "hopeless", method: :get)["attempts"]).to eq body["executions"]
    expect(step("attempts", "well", method: :get)["attempts"].map { |one| one["step"] }).to eq ["well"]
  end

  it "are not found by a wrong name, which suggests a near one" do
    expect(step(nil, "hopless", method: :get))
      .to include("status" => 404, "detail" => /did you mean hopeless\?/, "known" => %w[well hopeless patient])
    expect(step("attempts", "nothing", method: :get)).to include("status" => 404)
    expect(api(:get, "/tasks/77/steps")).to include("status" => 404)
    %w[retry resolve complete release update_result].each do |action|
      expect(step(action, "nothing", { reason: "why" }.merge(action.match?(/complete|result/) ? { result: {} } : {})))
        .to include("status" => 404)
    end
  end

  it "are retried: at once if waiting, from the start if failed" do
    expect(step("retry", "patient", { reason: "no need to wait" })).to include("state" => "ready", "attempts" => 1)
    expect(step("retry", "hopeless", { reason: "repaired" })).to include("state" => "ready", "attempts" => 0)
    expect(three.events.map(&:action)).to eq %w[retry retry]
    expect(step("retry", "well", { reason: "again" }))
      .to include("status" => 409, "step" => "well", "state" => "complete")
  end

  it "are resolved only if failed or not begun" do
    expect(step("resolve", "hopeless", { reason: "found it" })).to include("state" => "resolved_manually")
    expect(step("resolve", "well", { reason: "found it" })).to include("status" => 409)
  end

  it "are completed with a result only if failed or not begun" do
    expect(step("complete", "hopeless", { reason: "found it", result: { article: 5 } }))
      .to include("state" => "complete", "result" => { "article" => 5 })
    expect(step("complete", "well", { reason: "found it", result: {} })).to include("status" => 409)
  end

  it "get another result only if complete" do
    expect(step("update_result", "well", { reason: "wrong", result: { n: 2**70 } }))
      .to include("state" => "complete", "result" => { "n" => 2**70 })
    expect(step("update_result", "hopeless", { reason: "wrong", result: {} })).to include("status" => 409)
  end

  it "are released from the process that runs them" do
    task = Held.create!
    with_worker do
      Held::RUNNING.pop
      body = step("release", "only", { reason: "hangs" }, task: task) # the worker may have it again by then
      released = include("outcome" => "released", "error" => include("message" => /an operator released the step/))
      expect(body).to include("executions" => start_with(released))
      eventually { Held::RUNNING.size.positive? }
      Held::RUNNING.pop
      2.times { Held::FINISH << true }
      eventually { task.ended? }
    end
    expect(step("release", "only", { reason: "hangs" }, task: task)).to include("status" => 409)
    Held::FINISH.clear
  end

  it "stay unchanged without a reason or a result" do
    { "retry" => "hopeless", "resolve" => "hopeless", "complete" => "hopeless",
      "update_result" => "well" }.each do |action, name|
      body = action.match?(/complete|result/) ? { result: {} } : {}
      expect(step(action, name, body)).to include("status" => 422, "problems" => [include("field" => "reason")])
    end
    expect(step("complete", "hopeless", { reason: "why" }))
      .to include("status" => 422, "problems" => [include("field" => "result")])
    expect(step("complete", "hopeless", { reason: "why", result: [1] }))
      .to include("status" => 400, "problems" => [include("field" => "result")])
    expect(three.events).to be_empty
  end

  it "stay claimed when a release has no reason" do
    task = Held.create!
    with_worker do
      Held::RUNNING.pop
      expect(step("release", "only", {}, task: task)).to include("status" => 422)
      Held::FINISH << true
      eventually { task.ended? }
    end
  end
end
