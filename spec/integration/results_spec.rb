# frozen_string_literal: true

# However many, long or damaged a task's results are, no statement reads more than a part of them.
RSpec.describe "Stored results" do
  let(:connection) { ActiveRecord::Base.connection }

  # A task whose steps have results of about these sizes in bytes; nil means no result.
  def task_with(*sizes)
    names = ("a".."z").first(sizes.size)
    wide = workflow("wide_#{sizes.hash.abs}") { names.each { |name| step name, handler: "Square" } }
    wide.create!.tap { |task| give(task, sizes) }
  end

  def workflow(name, &)
    Class.new(TaskerCore::Workflow) do
      workflow_name(name)
      class_eval(&)
    end
  end

  # Stores results as if handlers had returned them.
  def give(task, sizes)
    sizes.each_with_index do |size, position|
      next unless size

      connection.execute(<<~SQL)
        update tasker_workflow_steps set state = 'complete', result = given, result_bytes = octet_length(given::text)
        from (select jsonb_build_object('n', #{position}, 'text', repeat('ä', #{size / 2})) as given) as new
        where task_id = #{task.id} and position = #{position}
      SQL
    end
  end

  # Makes the database fail whenever it reads the result of the step at that position, as it would on a damaged page.
  def with_damaged(position)
    connection.execute(<<~SQL)
      create schema damaged;
      create function damaged.read(result jsonb) returns jsonb language plpgsql stable as $$
      begin
        if result->'n' = '#{position}' then
          raise exception 'missing chunk' using errcode = 'XX001';
        end if;
        return result;
      end $$;
      create view damaged.tasker_workflow_steps as
      select task_id, position, pending_parents, attempts, result_bytes, state, last_error,
             damaged.read(result) as result
      from public.tasker_workflow_steps;
      set search_path = damaged, public;
    SQL
    yield
  ensure
    connection.execute("reset search_path; drop schema damaged cascade")
  end

  # The number of statements that read results while the block runs.
  def reads(&)
    count = 0
    counting = ->(*, payload) { count += 1 if payload[:sql].include?("bytes_so_far") }
    ActiveSupport::Notifications.subscribed(counting, "sql.active_record", &)
    count
  end

  def tasker(*arguments)
    out = StringIO.new
    err = StringIO.new
    status = TaskerCore::CLI.new(out: out, err: err).run([*arguments.map(&:to_s), "--require",
                                                          "spec/dummy/config/environment.rb"])
    status.zero? ? out.string : raise("#{err.string} (#{status})")
  end

  def sizes(results) = results.transform_values { |result| result.fetch("text").bytesize }

  it "are read in parts bounded by bytes" do
    stub_const("TaskerCore::StoredResults::BYTES", 1000)
    task = task_with(400, 400, 400, nil, 5000, 10, 10, nil)
    results = nil
    expect(reads { results = task.results }).to eq 4
    expect(sizes(results)).to eq("a" => 400, "b" => 400, "c" => 400, "e" => 5000, "f" => 10, "g" => 10)
    expect(reads { expect(task.each_result.first.first).to eq "a" }).to eq 1
  end

  it "are read in parts bounded by rows" do
    stub_const("TaskerCore::StoredResults::ROWS", 2)
    task = task_with(10, nil, 10, 10, 10, 10)
    results = nil
    expect(reads { results = task.results }).to eq 3
    expect(results.keys).to eq %w[a c d e f]
  end

  it "need one statement if short, none if absent" do
    expect(reads { task_with(10, 10, nil).results }).to eq 1
    expect(task_with(nil).results).to eq({})
  end

  it "are yielded by name, and read only while wanted" do
    stub_const("TaskerCore::StoredResults::BYTES", 1000)
    task = task_with(900, 900, 900)
    seen = []
    expect(reads { task.each_result { |name, result| (seen << [name, result["n"]]) && seen.size == 2 && break } })
      .to eq 2
    expect(seen).to eq [["a", 0], ["b", 1]]
    expect(task.each_result { nil }).to eq task
  end

  it "come with the list of steps if they are short" do
    task = task_with(100, 5000, nil, 6000)
    steps = task.steps
    expect(steps.map { |step| step[:result]&.fetch("n") }).to eq [0, nil, nil, nil]
    expect(steps.map(&:result_bytes)).to match [be_between(100, 200), be > 5000, nil, be > 6000]
    found = nil
    expect(reads { found = steps.map { |step| step.result&.fetch("n") } }).to eq 1
    expect(found).to eq [0, 1, nil, 3]
    expect(steps[1].result["text"].bytesize).to eq 5000
  end

  it "are read alone and fresh for a single step" do
    task = task_with(100, 5000, 6000)
    step = task.step("b")
    with_damaged(2) { expect(reads { expect(step.result["n"]).to eq 1 }).to eq 1 }
    step.update_result!({ "text" => "y" * 7000 }, reason: "better", by: "ada")
    expect(step.result["text"]).to eq "y" * 7000
    expect(TaskerCore::WorkflowStep.find([task.id, 2]).result["n"]).to eq 2
  end

  it "are found in any order and cut at a maximum length" do
    stub_const("TaskerCore::StoredResults::BYTES", 100)
    task = task_with(60, 61, 60)
    length = connection.select_value("select char_length(result::text) from tasker_workflow_steps where task_id = " \
                                     "#{task.id} and position = 0")
    results = TaskerCore::StoredResults.new(task.id, longest: length)
    found = [2, 0, 1].map { |position| results[position].to_h.values_at(:name, :cut) }
    expect(found).to eq [["c", false], ["a", false], ["b", false]]
    expect(TaskerCore::StoredResults.new(task.id, longest: length - 1).map { |result| [result.text.size, result.cut] })
      .to eq [[length - 1, true]] * 3
  end

  describe "that are damaged" do
    it "are named after the results before them" do
      task = task_with(10, 20, 30, 40, 50)
      with_damaged(3) do
        seen = []
        expect { task.each_result { |name, _| seen << name } }
          .to raise_error(TaskerCore::UnreadableError,
                          /\Athe result of step d of task #{task.id} cannot be read by the database: missing chunk/)
        expect(seen).to eq %w[a b c]
      end
    end

    it "are skipped by tasker show" do
      task = task_with(10, 5000, 30, 40)
      with_damaged(1) do
        shown = tasker("show", task.id, "--results")
        expect(shown)
          .to include('"n":0', '"n":2', '"n":3',
                      "b:\n  result  (the result of step b of task #{task.id} cannot be read by the database: missing")
      end
    end

    it "reduce the part size only temporarily" do
      task = task_with(*[10] * 10)
      with_damaged(3) do
        results = TaskerCore::StoredResults.new(task.id)
        # 1000 rows are halved eight times; each part that works doubles them again.
        expect(reads { (0..9).each { |position| results[position] unless position == 3 } }).to eq 10
      end
    end

    it "end the caller's transaction with the database's error" do
      task = task_with(10, 20)
      with_damaged(1) do
        refused = raise_error(ActiveRecord::StatementInvalid, /missing chunk/)
        expect(reads { expect { connection.transaction { task.results } }.to refused }).to eq 1
      end
    end
  end

  describe "on the command line" do
    it "are cut with a task and whole with their step" do
      task = task_with(100, 30_000)
      shown = tasker("show", task.id, "--results")
      whole = connection.select_value("select result_bytes from tasker_workflow_steps where task_id = " \
                                      "#{task.id} and position = 1")
      expect(shown).to include('{"n":0,"text":"ääää')
      expect(shown[/^b:\n  result  (.*)$/, 1])
        .to match(/\A.{10000}… \(#{whole} bytes: `tasker show #{task.id} b --results` prints it whole\)\z/)
      expect(tasker("show", task.id, "b", "--results")).to include "result  {\"n\":1,\"text\":\"#{'ä' * 15_000}\"}\n"
    end

    it "are whole in JSON and read in parts" do
      stub_const("TaskerCore::StoredResults::BYTES", 1000)
      task = task_with(100, 30_000, nil, 900)
      printed = nil
      expect(reads { printed = JSON.parse(tasker("show", task.id, "--json")) }).to eq 3
      expect(printed["steps"]).to eq JSON.parse(JSON.generate(TaskerCore::HTTP::Serializer.steps(task)))
      expect(printed.except("steps", "elapsed_ms"))
        .to eq JSON.parse(JSON.generate(TaskerCore::HTTP::Serializer.task_with_steps(task).except(:steps, :elapsed_ms)))
    end

    it "form one object in the report of a run" do
      task = task_with(100, nil, 5000)
      report = TaskerCore::Operations::TaskReport.new(task)
      out = StringIO.new
      TaskerCore::CLI::Run.new(out: out, err: out).send(:report, report)
      expect(JSON.parse(out.string).except("elapsed_ms"))
        .to eq JSON.parse(JSON.generate(report.to_h.except(:elapsed_ms)))
    end
  end
end
