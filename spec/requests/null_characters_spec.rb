# frozen_string_literal: true

# PostgreSQL cannot store a null character in a text: wherever one arrives, it is bad input and never a server error.
RSpec.describe "Null characters" do
  let(:task) { Diamond.create!(n: 2) }
  let(:null) { "a\0b" }

  def refused(field)
    yield
    raise "taken: #{field}"
  rescue TaskerCore::InputError => e
    expect([e.problems.first&.fetch("field"), e.message]).to match [field, /\A#{field}: /]
  end

  it "are rejected in reason and actor of each action" do
    actions = {
      task => %i[cancel! retry! resolve!],
      task.step("a") => %i[resolve! retry! release!]
    }
    actions.each do |subject, names|
      names.each do |name|
        refused("reason") { subject.public_send(name, reason: null, by: "ada") }
        refused("by") { subject.public_send(name, reason: "why", by: null) }
        refused("reason") { subject.public_send(name, reason: "\xff", by: "ada") }
      end
    end
    %i[complete! update_result!].each do |name|
      refused("reason") { task.step("a").public_send(name, {}, reason: null, by: "ada") }
      refused("by") { task.step("a").public_send(name, {}, reason: "why", by: null) }
    end
    expect([task.reload.state, TaskerCore::TaskEvent.count]).to eq ["pending", 0]
  end

  it "are rejected in keys, tags and names" do
    refused("idempotency_key") { Diamond.set(idempotency_key: null).create!(n: 2) }
    refused("tags") { Diamond.set(tags: [null]).create!(n: 2) }
    refused("correlation_id") { Diamond.set(correlation_id: null).create!(n: 2) }
    connection = TaskerCore::ApplicationRecord.connection
    refused("subscription") { TaskerCore::Postgres::Functions.call(connection, :drop_subscription, null) }
    refused("subscription") { TaskerCore::Postgres::Functions.call(connection, :skip_event, null, "why", "ada") }
    refused("reason") { TaskerCore::Postgres::Functions.call(connection, :skip_event, "ledger", null, "ada") }
    refused("by") { TaskerCore::Postgres::Functions.call(connection, :repair_task, task.id, "why", null) }
    refused("workflow") { TaskerCore::Operations::TaskSearch.new({ workflow: null }) }
    expect { TaskerCore::Task.lookup(null) }.to raise_error(TaskerCore::TaskNotFoundError)
  end

  describe "in requests" do
    before { TaskerCore.authenticate_with { |_| "ada" } && TaskerCore.authorize_with { |*| true } }

    it "are a client error" do
      requests = [[:get, "/workflows?name=a%00b"], [:get, "/workflows?namespace=a%00b"],
                  [:get, "/workflows/default/a%00b"], [:get, "/workflows/a%00b/diamond"],
                  [:get, "/workflows/default/diamond/1%00"], [:get, "/tasks?workflow=a%00b"],
                  [:get, "/tasks?tag=a%00b"], [:get, "/tasks/a%00b"],
                  [:get, "/tasks/#{task.id}/steps/a%00b"], [:post, "/tasks/#{task.id}/cancel", { reason: null }]]
      statuses = requests.map do |verb, path, body|
        api(verb, path, body)
        [path, response.status]
      end
      expect(statuses.reject { |_, status| status.between?(400, 499) }).to eq []
      expect(response.body).to include("\"field\":\"reason\"")
      get "/tasker/api/v1/tasks", headers: { "X-Correlation-ID" => null }
      expect(response.status).to eq 200
    end
  end
end
