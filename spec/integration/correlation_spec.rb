# frozen_string_literal: true

# One id passes from a request through worker processes to the last log line.
RSpec.describe "The correlation id", type: :request do
  around do |example|
    Dir.mktmpdir do |directory|
      @log = File.join(directory, "shared.log")
      File.write(@log, "") # or Logger would begin it with a comment
      example.run
    end
  end

  let(:id) { "01a2079a-97aa-7ca3-8336-d6df7d466282" }
  let(:lines) { File.readlines(@log).map { |line| JSON.parse(line) } }
  let(:followed) { lines.select { |line| line["correlation_id"] == id } }

  # Makes this process log to the workers' file, in their format.
  def logging_with_the_workers
    logger = TaskerCore.logger
    TaskerCore.logger = ActiveSupport::Logger.new(@log, formatter: TaskerCore::JsonFormatter.new, level: :info)
    yield
  ensure
    TaskerCore.logger.close
    TaskerCore.logger = logger
  end

  def with_two_workers(&block)
    variables = { "DUMMY_LOG" => @log }
    with_worker_processes(queues: "relay_start", variables: variables) do
      with_worker_processes(queues: "relay_arrive", variables: variables, &block)
    end
  end

  def logged(pids, *fields)
    followed.select { |line| pids.include?(line["process"]) }.map { |line| line.values_at(*fields) }
  end

  it "appears in every line, from the request to the last worker" do
    logging_with_the_workers do
      with_two_workers do
        post "/relays", params: { card: "4111 1111" }, headers: { "X-Correlation-ID" => id.upcase }
        @task = TaskerCore::Task.find(response.parsed_body["task"]).wait(timeout: 120)
        @child = TaskerCore::Task.find(@task.results["start"]["task"]).wait(timeout: 120)
      end
    end
    expect(response.headers["X-Correlation-ID"]).to eq id
    expect(response.parsed_body["correlation_id"]).to eq id
    expect(@task).to have_attributes(correlation_id: id, parent_correlation_id: nil, state: "complete")
    expect(@child).to have_attributes(correlation_id: id, parent_correlation_id: id, state: "complete")
    expect(@task.results["start"]).to include("carried" => id, "headers" => { "X-Correlation-ID" => id })

    expect(lines.map { |line| line["correlation_id"] }).to all match(/\A\h{8}-/)
    here, first, second = followed.map { |line| line["process"] }.uniq
    expect(here).to eq Process.pid
    expect(logged([here], "message", "task_id", "workflow")).to eq [["task created", @task.id, "relay"]]
    expect(logged([first], "message", "workflow", "step", "task_id"))
      .to eq [["relay starts", "relay", "start", @task.id], ["task created", "relay_end", nil, @child.id],
              ["step completed", "relay", "start", @task.id]]
    expect(logged([second], "message", "workflow", "step", "task_id"))
      .to contain_exactly(["relay arrives", "relay", "arrive", @task.id], ["step completed", "relay", "arrive",
                                                                           @task.id],
                          ["step completed", "relay_end", "stop", @child.id],
                          ["task ended", "relay", nil, @task.id], ["task ended", "relay_end", nil, @child.id])
    # A worker delivers an outcome before it logs it, so a task's end may be logged before that of its last step.
    ends = followed.select { |line| line["message"] == "task ended" }
    expect(ends).to all include("process" => second, "state" => "complete", "level" => "info")
    expect(File.read(@log)).not_to include("4111 1111")
  end

  it "is created if missing, and derived from other text" do
    ids = [{}, { "X-Correlation-ID" => " " }, { "X-Correlation-ID" => "order-42" }].map do |headers|
      post "/relays", params: { card: "1" }, headers: headers
      expect(TaskerCore::Task.find(response.parsed_body["task"]).correlation_id)
        .to eq response.headers["X-Correlation-ID"]
      response.headers["X-Correlation-ID"]
    end
    expect(ids.uniq.size).to eq 3
    expect(ids[0, 2]).to all match(/\A\h{8}-\h{4}-7/)
    expect(ids.last).to eq TaskerCore::Correlation.adopt("order-42")
    expect(TaskerCore.correlation_id).to be_nil
  end

  it "is carried by a job and by its retry" do
    post "/relays", params: { card: "1" }, headers: { "X-Correlation-ID" => id }
    data = ActiveJob::Base.queue_adapter.enqueued_jobs.last
    expect(data).to include("tasker_correlation_id" => id)
    job = ActiveJob::Base.deserialize(JSON.parse(JSON.generate(data.slice(*RelayJob.new.serialize.keys,
                                                                          "tasker_correlation_id"))))
    job.perform_now
    expect(TaskerCore::Task.last.correlation_id).to eq id
    expect(job.serialize).to include("tasker_correlation_id" => id)
    expect(TaskerCore.correlation_id).to be_nil
  end
end
