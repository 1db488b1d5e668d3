# frozen_string_literal: true

# Finding tasks through Active Record, and serializing them.
RSpec.describe TaskerCore::Operations::TaskSearch do
  let!(:squares) { %w[red blue red].map { |colour| Line.set(tags: [colour, "square"]).create!(n: 2) } }
  let!(:three) { Three.set(correlation_id: "0190163d-8694-739b-aea5-966c26f8ad91", idempotency_key: "three").create! }

  def found(**filters) = described_class.new(filters).page.tasks

  it "returns the newest first, by each filter" do
    expect(found).to eq [three, *squares.reverse]
    expect(found(workflow: "line")).to eq squares.reverse
    expect(found(workflow: "line", namespace: "elsewhere")).to eq []
    expect(found(tags: %w[red square])).to eq [squares[2], squares[0]]
    expect(found(correlation_id: "0190163D-8694-739B-AEA5-966C26F8AD91")).to eq [three]
    expect(found(input: { n: 2 })).to eq squares.reverse
    expect(found(version: three.workflow_version.version)).to eq [three]
    expect(found(state: "pending")).to eq [three, *squares.reverse]
    expect(found(state: %w[complete error])).to eq []
    expect(found(since: "1h", until: 1.hour.from_now).size).to eq 4
    expect(found(since: 1.hour.from_now)).to eq []
    expect(found(until: 1.hour.ago.iso8601)).to eq []
  end

  it "reads times without a zone in the application's zone" do
    Time.use_zone("Tokyo") do
      midnight = Time.zone.now.midnight
      before = connection_time { found(since: midnight.to_date) }
      expect([before, connection_time { found(until: midnight.strftime("%F")) },
              connection_time { found(since: midnight.strftime("%FT%H:%M")) }])
        .to all include(midnight.utc.iso8601(6))
      later = Line.set(wait_until: midnight.to_date + 9).create!(n: 1)
      expect(later.step(:a).run_at).to eq midnight + 9.days
      expect(Line.set(wait_until: (midnight + 9.days).strftime("%F")).create!(n: 1).step(:a).run_at)
        .to eq midnight + 9.days
    end
  end

  def connection_time(&) = binds_of("find_tasks", &).first

  it "pages within its scan limit" do
    search = described_class.new({ input: { n: 2 } }, scan_limit: 2)
    first = search.page(limit: 10)
    expect(first.tasks).to eq [squares[2]]
    expect(search.page(after: first.next, limit: 10).tasks).to eq [squares[1], squares[0]]
    expect(search.first(10)).to have_attributes(tasks: squares.reverse, next: nil)
    expect(search.first(2)).to have_attributes(tasks: squares.reverse.first(2), next: squares[1].uuid)
    expect(search.first(2, after: squares[1].uuid)).to have_attributes(tasks: [squares[0]], next: nil)
  end

  it "scans up to the configured limit" do
    allow(TaskerCore).to receive(:config).and_return(TaskerCore.config.with(api: { scan_limit: 100 }))
    expect(binds_of("find_tasks") { found(state: "error") }.last).to eq 100
  end

  {
    { stat: "error" } => /stat: "error" \(String\) is an unknown filter: did you mean state\?/,
    { stat: nil } => /stat: nil \(NilClass\) is an unknown filter: did you mean state\?/,
    { state: "eror" } => /state: "eror" \(String\) must be one or more of pending, in_progress, complete/,
    { since: "yesterday" } => /since: "yesterday" \(String\) must be a time such as/,
    { since: 5 } => /since: 5 \(Integer\) must be a time/,
    { until: "999999999999w" } => /until: .* must be a time/,
    { correlation_id: "x" } => /correlation_id: "x" \(String\) must be a UUID/,
    { input: "n" } => /input: "n" \(String\) must be an object/,
    { input: { n: Float::NAN } } => /input: cannot be written as JSON/,
    { workflow: "a\0" } => /workflow: "a\\u0000" \(String\) must be a string without null characters/,
    { tags: [3] } => /tags: \[3\] \(Array\) must be one or more strings/
  }.each do |filters, message|
    it "rejects #{filters.inspect.delete("\0")}" do
      expect { described_class.new(filters) }.to raise_error(TaskerCore::InputError, message)
    end
  end

  it "rejects an invalid page cursor" do
    expect { described_class.new.page(after: "7") }
      .to raise_error(TaskerCore::InputError, /after: "7" \(String\) must be the `next` of another page/)
  end

  describe TaskerCore::Task do
    it "is found by number or uuid only" do
      expect([three.id, three.id.to_s, three.uuid, three.uuid.upcase].map { |name| described_class.lookup(name) })
        .to all eq three
      ["", "0", "three", "9" * 19, "#{three.id} or 1=1", SecureRandom.uuid].each do |name|
        expect { described_class.lookup(name) }
          .to raise_error(TaskerCore::TaskNotFoundError, /there is no task .*use the number or the uuid/)
      end
    end

    it "has the same context alone and in a batch" do
      tasks = [*squares, three]
      together = described_class.execution_contexts(tasks).transform_values { |row| row.except("elapsed_seconds") }
      expect(together).to eq(tasks.to_h { |task| [task.id, task.execution_context.except("elapsed_seconds")] })
    end
  end

  describe TaskerCore::HTTP::Serializer do
    before do
      with_worker { eventually { three.steps.map(&:state) == %w[complete error waiting] && squares.all?(&:ended?) } }
    end

    it "serializes a list with one query, and a task with its steps" do
      asked = capture_sql { @serialized = described_class.tasks(described_class_search.page.tasks) }
      expect(asked.grep(/task_execution_contexts/).size).to eq 1
      expect(@serialized.map { |task| task.values_at(:workflow, :state) })
        .to eq [%w[three in_progress], %w[line complete], %w[line complete], %w[line complete]]
      expect(@serialized.first).to include(uuid: three.uuid, execution_status: "blocked_by_failures", tags: [],
                                           ended_at: nil,
                                           counts: { total: 3, completed: 1, failed: 1, ready: 0, in_progress: 0,
                                                     waiting: 1 })
      whole = described_class.task_with_steps(three)
      expect(whole)
        .to include(@serialized.first.except(:next_run_at,
                                             :elapsed_ms)).and include(idempotency_key: "three", input: {}, events: [])
      expect(whole[:steps]).to match [
        include(name: "well", state: "complete", result: { "well" => true }, attempts: 1, max_attempts: 3, error: nil),
        include(name: "hopeless", state: "error", depends_on: [], error: include("code" => "unknown_article")),
        include(name: "patient", state: "waiting", waiting_reason: "retry", run_at: match(/\A\d{4}-.*Z\z/),
                max_attempts: 2)
      ]
    end

    it "serializes attempts and operator events" do
      three.step(:hopeless).resolve!(reason: "found it", by: "ada")
      expect(described_class.step(three.step(:hopeless)))
        .to include(state: "resolved_manually",
                    executions: [include(attempt: 1, outcome: "failed", error: include("code" => "unknown_article"))])
      expect(described_class.task_with_steps(three)[:events])
        .to match [include(action: "resolve", step: "hopeless", by: "ada", reason: "found it")]
      expect(described_class.attempts(three).map { |attempt| attempt.values_at(:step, :outcome) })
        .to contain_exactly(%w[well completed], %w[hopeless failed], %w[patient failed])
      expect(described_class.workflow(three.workflow_version)).to include(name: "three", namespace: "default", steps: 3)
    end

    def described_class_search = TaskerCore::Operations::TaskSearch.new
  end

  # The arguments of the only call of a function while the block runs.
  def binds_of(function, &)
    payloads = []
    ActiveSupport::Notifications.subscribed(->(*, payload) { payloads << payload }, "sql.active_record", &)
    payloads.select { |payload| payload[:sql].include?(function) }.sole[:type_casted_binds]
  end

  # The statements that Active Record sends while the block runs.
  def capture_sql(&)
    statements = []
    ActiveSupport::Notifications.subscribed(->(*, payload) { statements << payload[:sql] }, "sql.active_record", &)
    statements
  end
end
