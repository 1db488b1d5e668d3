# frozen_string_literal: true

require "open3"

# Writes Rust's log lines to the application's logger.
RSpec.describe TaskerCore::Logging::Pump do
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }

  let(:out) { StringIO.new }
  let(:level) { :info }
  let(:logger) { ActiveSupport::Logger.new(out, formatter: TaskerCore::JsonFormatter.new, level: level) }

  def logging(capacity: 10_000, **settings) = TaskerCore::Logging.new(logger: logger, capacity: capacity, **settings)

  def logged_lines = out.string.lines.map { |line| JSON.parse(line) }

  def messages = logged_lines.map { |line| line["message"] }

  # Rust logs the registration of a worker at info.
  def make_rust_speak(times = 1)
    times.times do
      TaskerCore::Bridge.start_orchestrator(database: TaskerCore::Postgres::Address.current,
                                            configuration: TaskerCore.config, name: "speaker").stop(0.0)
    end
  end

  def ruby(script, variables = {})
    output, errors, status = Open3.capture3(variables, RbConfig.ruby, "-Ilib", "-e", <<~RUBY, chdir: root)
      require "bundler/setup"
      require "tasker_core"
      ActiveRecord::Base.establish_connection(ENV.fetch("DATABASE_URL"))
      TaskerCore.logger = ActiveSupport::Logger.new($stdout, formatter: TaskerCore::JsonFormatter.new, level: :info)
      def speak
        TaskerCore::Bridge.start_orchestrator(database: TaskerCore::Postgres::Address.current,
                                              configuration: TaskerCore.config, name: "speaker").stop(0.0)
      end
      #{script}
    RUBY
    expect(status).to be_success, errors
    output.lines.map { |line| JSON.parse(line) }
  end

  before { described_class.flush(logging(level: :off)) }

  it "writes Rust's lines with level, fields and process id" do
    pump = described_class.new(logging: logging(fields: { service: "shop" })).start
    make_rust_speak
    eventually { messages.include?("process registered") }
    pump.stop
    line = logged_lines.find { |candidate| candidate["message"] == "process registered" }
    expect(line).to include("level" => "info", "name" => "speaker", "process_id" => be_positive,
                            "process" => Process.pid,
                            "service" => "shop", "correlation_id" => TaskerCore::Correlation.of_process)
  end

  it "writes waiting lines when a process exits" do
    lines = ruby(<<~RUBY)
      TaskerCore.logging.configure_extension
      context = TaskerCore::Correlation::Context.new(correlation_id: TaskerCore::Correlation.of_process)
      TaskerCore::Bridge.offer_log(1, "said last", context)
    RUBY
    expect(lines.map { |line| line["message"] }).to eq ["said last"]
  end

  it "writes human lines when the logger does" do
    logger.formatter = ActiveSupport::Logger::SimpleFormatter.new
    pump = described_class.new(logging: logging).start
    make_rust_speak
    pump.stop
    expect(out.string).to match(
      /^tasker_core: process registered correlation_id=\h{8}-\S+ process=#{Process.pid} process_id=\d+ name=speaker/
    )
  end

  it "follows the logger's level in Rust" do
    logger.level = :warn
    pump = described_class.new(logging: logging).start
    make_rust_speak
    expect(TaskerCore::Bridge.take_logs).to eq [[], 0]
    logger.level = :info
    TaskerCore::Bridge.wake_logs
    eventually { make_rust_speak && messages.include?("process registered") }
    logger.level = :error
    TaskerCore::Bridge.wake_logs
    eventually { make_rust_speak && TaskerCore::Bridge.take_logs == [[], 0] }
  ensure
    pump.stop
  end

  it "writes Ruby's and Rust's lines in order and in batches" do
    context = TaskerCore::Correlation::Context.from_claim(JSON.parse(File.read("#{root}/spec/fixtures/seam/claim.json")))
    subject = logging(fields: { service: "shop" })
    subject.configure_extension
    written = []
    allow(logger).to(receive(:add).and_wrap_original do |add, severity, text|
      written << [severity, text.lines.size]
      add.call(severity, text)
    end)
    allow(described_class).to receive(:active_for?).with(logger).and_return(true)
    3.times { |number| subject.write(Logger::INFO, "said", { duration_ms: 1.5, number: number }, context: context) }
    make_rust_speak
    subject.write(Logger::ERROR, "wrong", { "error.class": "RuntimeError" }, context: context)
    subject.write(Logger::DEBUG, "not this")
    expect(out.string).to eq ""
    described_class.flush(subject)
    expect(written).to eq [[Logger::INFO, 4], [Logger::ERROR, 1]]
    expect(messages).to eq ["said", "said", "said", "process registered", "wrong"]
    expect(logged_lines.first).to include("level" => "info", "correlation_id" => context.correlation_id,
                                          "task_id" => 12, "workflow" => "order_fulfillment",
                                          "step" => "reserve_stock", "attempt" => 1, "duration_ms" => 1.5,
                                          "number" => 0, "service" => "shop")
    expect(logged_lines.last).to include("level" => "error", "error.class" => "RuntimeError")
  end

  it "writes Ruby's lines in its thread while it runs" do
    full = logging(capacity: 1)
    full.write(Logger::INFO, "before")
    expect(messages).to eq %w[before]
    pump = described_class.new(logging: full).start
    expect(described_class.active_for?(logger)).to be true
    expect(described_class.active_for?(Logger.new(nil))).to be false
    lines = Array.new(1000) { |number| "line #{number}" }
    lines.each { |line| full.write(Logger::INFO, line) }
    pump.stop
    expect(described_class.active_for?(logger)).to be false
    full.write(Logger::INFO, "afterwards")
    expect(messages).to match_array ["before", *lines, "afterwards"]
  ensure
    logging.configure_extension
  end

  it "writes line by line for a formatter that adds to each" do
    logger.formatter = Logger::Formatter.new
    pump = described_class.new(logging: logging).start
    3.times { |number| logging.write(Logger::INFO, "line", { number: number }) }
    pump.stop
    expect(out.string.lines.size).to eq 3
    expect(out.string.lines).to all match(/\AI, \[.*INFO -- : tasker_core: line/)
  end

  it "waits interruptibly and without Ruby's lock" do
    waiting = Thread.new { TaskerCore::Bridge.wait_for_logs(60.0) }
    eventually { waiting.stop? }
    expect(Array.new(1000) { 1 }.sum).to eq 1000
    expect(waiting.kill.join(40)).to be waiting
    limited = -> { Timeout.timeout(0.1) { TaskerCore::Bridge.wait_for_logs(60.0) } }
    expect(elapsed { expect(&limited).to raise_error(Timeout::Error) }).to be < 30
    waiting = Thread.new { TaskerCore::Bridge.wait_for_logs(60.0) }
    eventually { waiting.stop? }
    TaskerCore::Bridge.wake_logs
    expect(waiting.join(40)).to be waiting
    expect { TaskerCore::Bridge.wait_for_logs(-1.0) }
      .to raise_error(TaskerCore::ConfigurationError, /not a valid duration/)
  end

  it "drops lines beyond the capacity and logs their number" do
    limited = logging(capacity: 3)
    limited.configure_extension
    make_rust_speak(5)
    allow(TaskerCore).to receive(:logging).and_return(limited)
    described_class.flush(limited)
    expect(messages.count("process registered")).to eq 3
    expect(logged_lines.find { |line| line["message"].include?("dropped") })
      .to include("level" => "warn", "dropped" => 2, "capacity" => 3)
  ensure
    logging.configure_extension
  end

  it "writes a line to standard error when the logger raises" do
    broken = logging
    calls = 0
    allow(broken.logger).to(
      receive(:add).and_wrap_original { |add, *line| (calls += 1) == 1 ? raise(IOError, "disk full") : add.call(*line) }
    )
    broken.configure_extension
    make_rust_speak
    expect { described_class.flush(broken) }
      .to output(/the logger raised IOError: disk full; the line was: .*process registered/).to_stderr
    make_rust_speak
    described_class.flush(broken)
    expect(messages).to eq ["process registered"]
  end

  it "loses nothing at exit, normal or by an exception" do
    ["speak", "speak; exit 0", "begin; raise 'no'; ensure; speak; exit(0); end"].each do |ending|
      lines = ruby("TaskerCore.logging.configure_extension; #{ending}")
      expect(lines.map { |line| line["message"] }).to eq(["process registered"]), ending
    end
  end

  it "writes each line once after a fork, with its process's id" do
    lines = ruby(<<~RUBY)
      TaskerCore.logging.configure_extension
      speak
      child = fork do
        TaskerCore.logging.configure_extension
        speak
        speak
      end
      Process.wait(child)
      speak
    RUBY
    by_process = lines.group_by { |line| line["process"] }
    expect(by_process.values.map(&:size)).to contain_exactly(2, 2)
    expect(by_process.values.map { |own| own.map { |line| line["correlation_id"] }.uniq.size }).to eq [1, 1]
    expect(lines.map { |line| line["correlation_id"] }.uniq.size).to eq 2
  end

  it "gives each line its process's id, however it was started" do
    lines = ruby(<<~RUBY)
      offer_line = lambda do
        TaskerCore.logging.configure_extension
        context = TaskerCore::Correlation::Context.new(correlation_id: TaskerCore::Correlation.of_process)
        TaskerCore::Bridge.offer_log(1, Process.pid.to_s, context)
        TaskerCore::Logging::Pump.flush
      end
      offer_line.call
      Process.wait(fork(&offer_line))
      IO.popen("-") { |io| io ? io.each_line { puts _1 } : offer_line.call }
      reader, writer = IO.pipe
      Process.wait(fork { Process.daemon(true, true); offer_line.call; writer.close })
      writer.close
      reader.read # until the daemon has ended
    RUBY
    expect(lines.map { |line| line["process"].to_s }).to eq(lines.map { |line| line["message"] })
    expect(lines.map { |line| line["process"] }.uniq.size).to eq 4
  end

  it "is not blocked by a fork during its work" do
    pump = described_class.new(logging: logging).start
    speaking = Thread.new { make_rust_speak(20) }
    children = Array.new(20) do
      fork do
        TaskerCore.logging.configure_extension
        described_class.flush(TaskerCore::Logging.new(logger: Logger.new(IO::NULL), capacity: 10_000))
        exit!(true)
      end
    end
    statuses = children.map { |child| Timeout.timeout(120) { Process.wait2(child).last } }
    expect(statuses).to all be_success
    speaking.join
    pump.stop
    expect(messages.count("process registered")).to eq 20
  end

  it "survives a collection at every allocation" do
    logging.configure_extension
    make_rust_speak
    collecting { described_class.flush(logging) }
    expect(messages).to include("process registered")
  end
end
