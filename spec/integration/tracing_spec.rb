# frozen_string_literal: true

require "opentelemetry/sdk"
require "opentelemetry/exporter/otlp"
require "puma"
require "puma/server"

RSpec.describe TaskerCore::Tracing do
  include Workers

  around do |example|
    OpenTelemetry.tracer_provider = provider
    example.run
  ensure
    OpenTelemetry.tracer_provider = OpenTelemetry::Trace::TracerProvider.new # without effect
  end

  let(:exporter) { OpenTelemetry::SDK::Trace::Export::InMemorySpanExporter.new }
  let(:provider) do
    OpenTelemetry::SDK::Trace::TracerProvider.new.tap do |provider|
      provider.add_span_processor(OpenTelemetry::SDK::Trace::Export::SimpleSpanProcessor.new(exporter))
    end
  end

  def connection = ActiveRecord::Base.connection

  def spans(name) = exporter.finished_spans.select { |span| span.name == name }

  def span(name)
    all = spans(name)
    all.one? ? all.first : raise("#{all.size} of #{name}: #{exporter.finished_spans.map(&:name)}")
  end

  def in_request(&block) = provider.tracer("web").in_span("request", &block)

  it "connects the request, the creation and the attempts of dependent steps" do
    task = in_request { Diamond.create!(n: 2) }
    with_worker { task.wait(timeout: 60) }
    request = span("request")
    creation = span("create diamond")
    expect(creation).to have_attributes(kind: :producer, parent_span_id: request.span_id, trace_id: request.trace_id)
    expect(creation.attributes)
      .to include("messaging.system" => "tasker_core", "messaging.operation.type" => "send",
                  "messaging.destination.name" => "default", "tasker.task.uuid" => task.uuid)
    attempts = %w[a b c d].to_h { |step| [step, span("process diamond.#{step}")] }
    expect(attempts.values).to all have_attributes(kind: :consumer, parent_span_id: creation.span_id,
                                                   trace_id: request.trace_id)
    linked = attempts.transform_values { |attempt| attempt.links.to_a.map { |link| link.span_context.span_id } }
    ids = attempts.transform_values(&:span_id)
    expect(linked.transform_values(&:sort))
      .to eq("a" => [], "b" => [ids["a"]], "c" => [ids["a"]], "d" => ids.values_at("b", "c").sort)
    expect(attempts["d"].attributes)
      .to eq("messaging.system" => "tasker_core", "messaging.operation.name" => "process",
             "messaging.operation.type" => "process", "messaging.destination.name" => "default",
             "messaging.message.id" => "#{task.uuid}:d", "messaging.message.conversation_id" => task.correlation_id,
             "tasker.task.uuid" => task.uuid, "tasker.workflow.namespace" => "default",
             "tasker.workflow.name" => "diamond", "tasker.workflow.version" => task.workflow_version.version,
             "tasker.step.name" => "d", "tasker.attempt.number" => 1, "tasker.attempt.max" => 3,
             "tasker.attempt.outcome" => "completed")
  end

  it "keeps the trace state in the database" do
    state = OpenTelemetry::Trace::Tracestate.from_string("vendor=x")
    remote = OpenTelemetry::Trace::SpanContext.new(trace_flags: OpenTelemetry::Trace::TraceFlags::SAMPLED,
                                                   tracestate: state, remote: true)
    parent = OpenTelemetry::Trace.context_with_span(OpenTelemetry::Trace.non_recording_span(remote))
    task = OpenTelemetry::Context.with_current(parent) { Line.create!(n: 1) }
    with_worker { task.wait(timeout: 60) }
    expect(span("process line.d").trace_id).to eq remote.trace_id
    expect(span("process line.d").tracestate.to_s).to eq "vendor=x"
  end

  it "records the exception of a failed attempt, and links its retry" do
    task = in_request { Flaky.create!(failures: 1) }
    with_worker do
      eventually { connection.select_value("select count(*) from tasker_waiting_steps") == 1 }
      task.retry!(reason: "x", by: "y")
      task.wait(timeout: 60)
    end
    first, second = spans("process flaky.trial").sort_by(&:start_timestamp)
    expect(first.status).to have_attributes(code: OpenTelemetry::Trace::Status::ERROR, description: "failure 1")
    expect(first.events.map(&:name)).to eq ["exception"]
    expect(first.events.first.attributes)
      .to include("exception.type" => "RuntimeError", "exception.message" => "failure 1",
                  "exception.stacktrace" => /flaky\.rb/)
    expect(first.attributes).to include("tasker.attempt.outcome" => "failed", "error.type" => "RuntimeError",
                                        "tasker.attempt.retryable" => true)
    expect(second.links.map { |link| link.span_context.span_id }).to include first.span_id
    expect(second.attributes).to include("tasker.attempt.number" => 2, "tasker.attempt.outcome" => "completed")
  end

  it "sends the span of a lost attempt with the next one" do
    task = in_request { Line.create!(n: 1) }
    call = ->(name, *arguments) { TaskerCore::Postgres::Functions.call(connection, name, *arguments) }
    process = call.call(:register_process, JSON.generate(name: "n", hostname: "h", pid: 1, queues: ["*"],
                                                         heartbeat_timeout_ms: 1000, lease_grace_ms: 1000))
    call.call(:claim_steps, process, ["*"], 1)
    connection.execute("delete from tasker_processes")
    call.call(:sweep, nil, 100)
    task.retry!(reason: "x", by: "y")
    with_worker { task.wait(timeout: 60) }
    lost, completed = spans("process line.a")
    expect(lost.attributes).to include("tasker.attempt.outcome" => "lost", "tasker.attempt.number" => 1,
                                       "error.type" => "TaskerCore::LostAttempt")
    expect(lost).to have_attributes(trace_id: span("request").trace_id, end_timestamp: be_positive)
    expect(completed.links.map { |link| link.span_context.span_id }).to eq [lost.span_id]
  end

  it "sends one span of an attempt whose worker stopped" do
    begun = Thread::Queue.new
    go = Thread::Queue.new
    stub_const("Passed", Class.new(TaskerCore::StepHandler) { def call(_) = {} })
    stub_const("Halted", Class.new(TaskerCore::StepHandler) { define_method(:call) { |_| (begun << 1) && go.pop } })
    stub_const("Halting", Class.new(TaskerCore::Workflow) do
      step :first, handler: "Passed"
      step :second, depends_on: :first, handler: "Halted"
    end)
    task = in_request { Halting.create! }
    worker = TaskerCore::Worker.new.start
    begun.pop
    worker.stop(timeout: 0)
    go << {}
    with_worker { task.wait(timeout: 60) }
    expect(spans("process halting.second").map { |each| each.attributes["tasker.attempt.outcome"] })
      .to eq %w[abandoned completed]
  end

  it "sends only valid text, as one invalid byte would lose the whole batch" do
    allow(TaskerCore::Postgres::Functions).to receive(:call).and_raise(TaskerCore::DatabaseError.new("away \xff"))
    expect { Line.create!(n: 1) }.to raise_error(TaskerCore::DatabaseError)
    event = span("create line").events.first
    expect(event.attributes).to include("exception.message" => "away \uFFFD", "exception.type" => /DatabaseError/)
    expect(span("create line").status.description).to eq "away \uFFFD"
  end

  it "shortens a message as the database does" do
    allow(TaskerCore::Postgres::Functions).to receive(:call).and_raise(TaskerCore::DatabaseError.new("x" * 20_000))
    expect { Line.create!(n: 1) }.to raise_error(TaskerCore::DatabaseError)
    expect(span("create line").events.first.attributes.fetch("exception.message").length).to eq 10_000
    expect(span("create line").status.description.length).to be < 1_010
  end

  it "marks a failed creation" do
    allow(TaskerCore::Postgres::Functions).to receive(:call).and_raise(TaskerCore::DatabaseError.new("away"))
    expect { Line.create!(n: 1) }.to raise_error(TaskerCore::DatabaseError)
    expect(span("create line")).to have_attributes(status: have_attributes(code: OpenTelemetry::Trace::Status::ERROR))
  end

  it "never lets an error of OpenTelemetry reach the work" do
    allow(provider).to receive(:tracer).and_raise("broken")
    errors = []
    before = OpenTelemetry.error_handler
    OpenTelemetry.error_handler = ->(exception:, message:) { errors << [exception&.message, message] }
    task = Line.create!(n: 1)
    with_worker { task.wait(timeout: 60) }
    expect(task.reload.state).to eq "complete"
    expect(errors.uniq).to eq [["broken", "tasker_core cannot trace"]]
  ensure
    OpenTelemetry.error_handler = before
  end

  it "stores no context and reads no history without a configured provider" do
    OpenTelemetry.tracer_provider = OpenTelemetry::Trace::TracerProvider.new
    expect(described_class::History).not_to receive(:read)
    task = Line.create!(n: 1)
    with_worker { task.wait(timeout: 60) }
    expect(connection.select_value("select count(*) from tasker_task_inputs where trace_context is not null")).to eq 0
  end

  it "is not used while the application has not loaded OpenTelemetry" do
    hide_const("OpenTelemetry::Trace")
    expect(described_class).not_to receive(:tracer)
    task = Line.create!(n: 1)
    with_worker { task.wait(timeout: 60) }
  end

  # An OTLP/HTTP receiver, which decodes the real messages.
  def receive_spans
    received = Thread::Queue.new
    app = lambda do |env|
      body = env["rack.input"].read
      body = Zlib.gunzip(body) if env["HTTP_CONTENT_ENCODING"] == "gzip"
      message = Opentelemetry::Proto::Collector::Trace::V1::ExportTraceServiceRequest.decode(body)
      message.resource_spans.flat_map(&:scope_spans).flat_map { |scope| scope.spans.to_a }.each { received << _1 }
      [200, {}, [""]]
    end
    server = Puma::Server.new(app, nil, min_threads: 1, max_threads: 2, log_writer: Puma::LogWriter.null)
    port = server.add_tcp_listener("127.0.0.1", 0).addr[1]
    server.run
    yield "http://127.0.0.1:#{port}", received
  ensure
    server&.stop(true)
  end

  it "exports the attempts of forked worker processes through OTLP" do
    task = in_request { Diamond.create!(n: 2) }
    receive_spans do |url, received|
      variables = { "OTEL_EXPORTER_OTLP_ENDPOINT" => url, "OTEL_TRACES_EXPORTER" => "otlp",
                    "RUBYOPT" => "-r#{root}/spec/fixtures/opentelemetry/setup.rb" }
      with_worker_processes(processes: 2, variables: variables) { task.wait(timeout: 60) }
      exported = Array.new(received.size) { received.pop }
      expect(exported.map(&:name)).to match_array(%w[a b c d].map { |step| "process diamond.#{step}" })
      expect(exported.map(&:trace_id).uniq).to eq [span("request").trace_id]
      expect(exported.map(&:parent_span_id).uniq).to eq [span("create diamond").span_id]
      expect(exported.find { |one| one.name.end_with?(".d") }.links.size).to eq 2
    end
  end
end
