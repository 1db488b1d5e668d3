# frozen_string_literal: true

# Access control of every operation that config/openapi.yaml describes.
RSpec.describe "Access to the API" do
  let!(:task) { Line.create!(n: 2) }
  let!(:variables) do
    { "task" => task.uuid, "step" => "a", "namespace" => "default", "name" => "line",
      "version" => task.workflow_version.version }
  end

  # Actions of a resource, in the table of docs/api.md.
  def documented(resource)
    rows = File.read("#{root}/docs/api.md").scan(/^\| (`:.*?) \| (.*?) \|/)
    rows.find { |resources, _| resources.include?("`:#{resource}`") }.last.scan(/`:(\w+)`/).flatten.map(&:to_sym)
  end

  def operations = Contract.current.operations

  def guarded = operations.reject(&:open?)

  def call(operation, body: { reason: "why", result: {} }, **headers)
    body = { workflow: "line", input: { n: 3 } } if operation.id == "createTask"
    body = body.slice(:reason) unless operation.id.match?(/createTask|complete|Result/)
    api(operation.verb, operation.url(variables).delete_prefix(Contract::ROOT), operation.body? ? body : nil, **headers)
  end

  it "describes every route and nothing else" do
    expect(Contract.current.problems).to eq []
    routes = TaskerCore::Engine.routes.routes.select do |route|
      route.path.spec.to_s.start_with?("/api/v1") && route.verb.present?
    end
    found = routes.flat_map do |route|
      route.verb.split("|").map { |verb| [verb.downcase, route.path.spec.to_s.delete_prefix("/api/v1")] }
    end
    described = operations.map do |operation|
      [operation.verb, operation.path.gsub(/\{(\w+)\}/) { |name| ":#{name[1..-2]}" }]
    end
    names = { ":task_id" => ":task", ":id" => ":task", ":name" => ":step" }
    routed = found.map do |verb, path|
      [verb, path.start_with?("/tasks") ? path.gsub(/:(task_id|id|name)/, names) : path]
    end
    expect(routed.uniq).to match_array described
  end

  it "requires authentication for all operations but two" do
    TaskerCore.authenticate_with(:token, %w[secret other])
    guarded.each do |operation|
      [{}, { "Authorization" => "Bearer wrong" },
       { "Authorization" => "Basic #{['a:secret'].pack('m0')}" }].each do |headers|
        expect(call(operation, **headers)).to include("status" => 401)
        expect(response.headers["WWW-Authenticate"]).to eq 'Bearer realm="tasker_core"'
      end
      call(operation, "Authorization" => "Bearer secret")
      expect(response.status).not_to be_between(401, 403)
    end
    (operations - guarded).each { |operation| expect(call(operation)).to include("status" => /live|ready/) }
    expect((operations - guarded).map(&:id)).to eq %w[live ready]
  end

  it "is closed in production until authentication is set up" do
    in_environment("production") do
      remedy = /configure authentication in an initializer: TaskerCore.authenticate_with\(:token/
      guarded.each do |operation|
        expect(call(operation)).to include("status" => 403, "type" => "urn:tasker-core:closed", "detail" => remedy)
      end
      expect(api(:get, "/health/live")).to eq("status" => "live")
    end
    expect(task.state).to eq "pending"
  end

  it "is authorized by action, resource and record" do
    asked = {}
    TaskerCore.authenticate_with { "ada" }
    guarded.each do |operation|
      TaskerCore.authorize_with { |*all| (asked[operation.id] = all) && false }
      expect(call(operation)).to include("status" => 403, "detail" => /\Ayou may not \w+ \w+\z/)
    end
    expect(asked.values.map(&:first).uniq).to eq ["ada"]
    expect(asked.transform_values { |_, action, resource, record| [action, resource, record.class] }).to include(
      "listTasks" => [:list, :tasks, NilClass], "createTask" => [:create, :tasks, Class],
      "showTask" => [:show, :tasks, TaskerCore::Task],
      "cancelTask" => [:cancel, :tasks, TaskerCore::Task], "retryTask" => [:retry, :tasks, TaskerCore::Task],
      "resolveTask" => [:resolve, :tasks, TaskerCore::Task],
      "listAttemptsOfTask" => [:list, :attempts, TaskerCore::Task],
      "listSteps" => [:list, :steps, TaskerCore::Task], "showStep" => [:show, :steps, TaskerCore::WorkflowStep],
      "listAttemptsOfStep" => [:list, :attempts, TaskerCore::Task],
      "retryStep" => [:retry, :steps, TaskerCore::WorkflowStep],
      "resolveStep" => [:resolve, :steps, TaskerCore::WorkflowStep],
      "completeStep" => [:complete, :steps, TaskerCore::WorkflowStep],
      "releaseStep" => [:release, :steps, TaskerCore::WorkflowStep],
      "updateResultStep" => [:update_result, :steps, TaskerCore::WorkflowStep],
      "graphOfTask" => [:show, :tasks, TaskerCore::Task], "whyTask" => [:show, :tasks, TaskerCore::Task],
      "listWorkflows" => [:list, :workflows, NilClass], "listWorkflowVersions" => [:list, :workflows, NilClass],
      "showWorkflowVersion" => [:show, :workflows, TaskerCore::WorkflowVersion], "status" => [:show, :health, NilClass],
      "metrics" => [:show, :metrics, NilClass], "openapi" => [:show, :openapi, NilClass]
    )
    expect(asked.keys).to match_array guarded.map(&:id)
    asked.each_value { |_, action, resource| expect(documented(resource)).to include(action) }
    expect(task.state).to eq "pending"
    expect(TaskerCore::Task.count).to eq 1
  end

  it "records the actor's name with each action" do
    user = Struct.new(:id) { def self.name = "User" }
    { "ada" => "ada", user.new(5) => "User 5", true => "api" }.each do |actor, name|
      TaskerCore.authenticate_with { actor }
      api(:post, "/tasks/#{Line.create!(n: 2).id}/cancel", { reason: "why" })
      expect(TaskerCore::TaskEvent.last).to have_attributes(actor: name, reason: "why", action: "cancel")
    end
    TaskerCore.authenticate_with(:basic, name: "bob", password: "secret")
    api(:post, "/tasks/#{task.id}/cancel", { reason: "why" }, "Authorization" => "Basic #{['bob:secret'].pack('m0')}")
    expect(TaskerCore::TaskEvent.last.actor).to eq "bob"
  end

  it "hides details of a server error, and reports and logs it" do
    reported = []
    subscriber = Object.new
    subscriber.define_singleton_method(:report) do |error, **context|
      reported << [error.message, context[:handled], context[:source]]
    end
    Rails.error.subscribe(subscriber)
    log = StringIO.new
    TaskerCore.logger = ActiveSupport::Logger.new(log)
    TaskerCore.authorize_with { raise "the password is 4711" }
    guarded.each do |operation|
      expect(call(operation))
        .to include("status" => 500, "detail" => "the error has been reported to the operators of this application")
      expect(response.body).not_to match(/4711|RuntimeError|_spec/)
    end
    expect(reported).to eq [["the password is 4711", true, "tasker_core"]] * guarded.size
    expect(log.string.scan(/a request to the engine failed.*RuntimeError.*4711/).size).to eq guarded.size
  ensure
    Rails.error.unsubscribe(subscriber)
    TaskerCore.logger = Rails.logger
  end

  it "hides details of an unreachable database" do
    without_database do
      operations.each do |operation|
        next if %w[live openapi].include?(operation.id)

        expect(call(operation))
          .to include("status" => 503, "title" => "The database cannot be used",
                      "detail" => /\A(try again later|database)\z/)
        expect(response.body).not_to include("127.0.0.1")
      end
      expect(api(:get, "/health/live")).to eq("status" => "live")
      expect(api(:get, "/openapi.json")).to include("openapi" => "3.1.0")
    end
  end

  it "can be disabled, except for health and metrics" do
    with_settings(api: { enabled: false })
    on = operations.reject { |operation| call(operation).then { response.status == 404 } }
    expect(on.map(&:id)).to eq %w[live ready status metrics]
    expect(api(:get, "/tasks")).to include("detail" => "the API is disabled: api.enabled is false")
  end

  it "forbids caching and sets no cookies" do
    api(:get, "/tasks")
    expect(response.headers).to include("Cache-Control" => "no-store", "X-Content-Type-Options" => "nosniff")
    expect(response.headers).not_to include("Set-Cookie")
  end
end
