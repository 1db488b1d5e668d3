# frozen_string_literal: true

RSpec.describe TaskerCore::HTTP::ProblemDetails do
  it "has the statuses and types that docs/api.md lists" do
    rows = File.read("#{root}/docs/api.md").scan(/^\| ([\d, ]+) \| (`[a-z-]+`.*?) \| /)
    body = rows.flat_map do |statuses, types|
      statuses = statuses.split(", ").map(&:to_i)
      types.scan(/`(.*?)`/).flatten.each_with_index.map { |type, number| [type, statuses[number] || statuses.first] }
    end
    expect(described_class::TABLE.values.map { |status, type| [type, status] }.uniq).to match_array body
  end

  it "shows message and facts of a client error" do
    problem = described_class.new(
      TaskerCore::TransitionError.new("it has ended", facts: { "task" => 5, "status" => "x", "title" => "x" })
    )
    expect(problem.to_h).to eq("type" => "urn:tasker-core:transition-refused",
                               "title" => "The state forbids the action",
                               "status" => 409,
                               "detail" => "it has ended", "task" => 5)
    expect(problem).not_to be_fault
  end

  it "shows no details of a server error" do
    [RuntimeError.new("secret"), TaskerCore::InternalError.new("secret", facts: { "secret" => 1 }),
     TaskerCore::ConfigurationError.new("secret"),
     TaskerCore::FunctionsMissingError.new("secret"), ActiveRecord::StatementInvalid.new("secret"),
     ActiveRecord::Deadlocked.new("secret"),
     ActiveRecord::RecordNotFound.new("secret"), ActiveRecord::ConnectionTimeoutError.new("secret"),
     ActiveRecord::QueryCanceled.new("secret"),
     TaskerCore::WorkflowError.new("secret")].each do |error|
      expect(described_class.new(error).to_json).not_to include("secret")
    end
    statuses = [ActiveRecord::Deadlocked, ActiveRecord::QueryCanceled, ActiveRecord::ConnectionTimeoutError,
                ActiveRecord::NoDatabaseError, ActiveRecord::StatementInvalid]
    expect(statuses.map { |type| described_class.new(type.new).status }).to eq [503, 503, 503, 503, 500]
  end

  it "lists a field error under problems" do
    facts = { "field" => "reason", "action" => "cancel" }
    error = TaskerCore::InputError.new("reason: is blank: give one", facts: facts)
    body = described_class.new(error).to_h
    expect(body)
      .to include("problems" => [{ "field" => "reason", "message" => "is blank: give one" }], "action" => "cancel")
    expect(body).not_to have_key("field")
  end
end
