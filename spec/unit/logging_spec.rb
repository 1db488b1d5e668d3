# frozen_string_literal: true

RSpec.describe TaskerCore::Logging do
  let(:out) { StringIO.new }
  let(:logger) { ActiveSupport::Logger.new(out) }
  let(:context) do
    TaskerCore::Correlation::Context.from_claim(JSON.parse(File.read("#{root}/spec/fixtures/seam/claim.json")))
  end
  let(:id) { context.correlation_id }

  def logging(**settings) = described_class.new(logger: logger, capacity: 10, **settings)

  def written = out.string.lines(chomp: true)

  it "writes the context's fields, or the process id outside any" do
    context.within { logging.write(Logger::WARN, "said", { more: 1 }) }
    2.times { logging.write(Logger::INFO, "alone") }
    expect(written.first).to eq "tasker_core: said correlation_id=#{id} task_id=12 workflow=order_fulfillment " \
                                "step=reserve_stock attempt=1 process=#{Process.pid} more=1"
    expect(written.last)
      .to match(/\Atasker_core: alone correlation_id=\h{8}-\h{4}-7\h{3}-\h{4}-\h{12} process=#{Process.pid}\z/)
    expect(written[1]).to eq written[2]
  end

  it "respects the logger's level and its own" do
    severities = [Logger::DEBUG, Logger::INFO, Logger::WARN, Logger::ERROR]
    { %i[debug logger] => "DIWE", [:warn, "logger"] => "WE", [:debug, "error"] => "E", %i[error debug] => "E",
      %i[debug off] => "" }
      .each do |(level, own), expected|
        logger.level = level
        subject = logging(level: own)
        expect(severities.select { |severity| subject.writes?(severity) }.map { |severity| "DIWE"[severity] }.join)
          .to eq expected
        expect(subject.severity).to eq(severities.find { |severity| subject.writes?(severity) } || Logger::UNKNOWN)
      end
    logger.level = :error
    logging.write(Logger::WARN, "not this")
    expect(written).to be_empty
  end

  it "writes JSON when configured, or when the logger does" do
    fields = { service: "shop" }
    logging(format: "json", fields: { "service" => "shop" }).write(Logger::INFO, "written")
    logger.formatter = TaskerCore::JsonFormatter.new
    logging(fields: fields).write(Logger::INFO, "of itself")
    described_class.new(logger: ActiveSupport::BroadcastLogger.new(logger), capacity: 10,
                        fields: fields).write(Logger::INFO, "of one of many")
    logging(format: :human, fields: fields).write(Logger::INFO, "for people")
    lines = written.map { |line| JSON.parse(line) }
    expect(lines.map { |line| line["message"] })
      .to match ["written", "of itself", "of one of many", /\Atasker_core: for people .* service=shop\z/]
    expect(lines.first(3)).to all include("level" => "info", "service" => "shop", "process" => Process.pid)
  end

  it "keeps earlier options when others are set" do
    TaskerCore.log_as(fields: { service: "shop" })
    TaskerCore.log_as(filter: [:card])
    expect(TaskerCore.logging.fields).to eq(service: "shop")
    expect(TaskerCore.logging.filtered({ "card" => 1 })).to eq("card" => "[FILTERED]")
  ensure
    TaskerCore.log_as(fields: {}, filter: Rails.application.config.filter_parameters)
  end

  it "rejects unknown options" do
    expect { TaskerCore.log_as(fitler: [:card]) }.to raise_error(ArgumentError, /unknown keyword: :fitler/)
  end

  it "merges fields and filters of settings and code" do
    configuration = TaskerCore.config
    TaskerCore.configure(configuration.with(logging: { fields: ["service=shop", "region=eu=1"], filter: ["iban"] }))
    TaskerCore.log_as(fields: { service: "web", release: 42 }, filter: [:card])
    expect(TaskerCore.logging.fields).to eq(service: "web", region: "eu=1", release: 42)
    expect(TaskerCore.logging.filtered({ "card" => 1, "iban" => 2, "n" => 3 }))
      .to eq("card" => "[FILTERED]", "iban" => "[FILTERED]", "n" => 3)
  ensure
    TaskerCore.configure(configuration)
    TaskerCore.log_as(fields: {}, filter: Rails.application.config.filter_parameters)
  end

  it "follows the settings for level, format and capacity" do
    configuration = TaskerCore.config
    TaskerCore.configure(configuration.with(logging: { level: "warn", format: "json", buffer_capacity: 7 }))
    expect([TaskerCore.logging.writes?(Logger::INFO), TaskerCore.logging.writes?(Logger::WARN)]).to eq [false, true]
    expect([TaskerCore.logging.format, TaskerCore.logging.capacity]).to eq [:json, 7]
  ensure
    TaskerCore.configure(configuration)
  end

  it "buffers up to logging.buffer_capacity lines" do
    configuration = TaskerCore.config
    TaskerCore.configure(configuration.with(logging: { buffer_capacity: 7 }))
    TaskerCore.logging.configure_extension
    TaskerCore::Logging::Pump.flush
    context = TaskerCore::Correlation::Context.new(correlation_id: TaskerCore::Correlation.fresh)
    offered = Array.new(9) { |number| TaskerCore::Bridge.offer_log(Logger::INFO, "line #{number}", context) }
    expect(offered).to eq ([true] * 7) + ([false] * 2)
  ensure
    TaskerCore.configure(configuration)
    TaskerCore.logging.configure_extension
    TaskerCore::Logging::Pump.flush(described_class.new(logger: logger, capacity: 10))
  end

  it "names an invalid setting" do
    expect { logging(level: "loud") }
      .to raise_error(TaskerCore::ConfigurationError,
                      'logging.level: "loud" (String) must be one of debug, info, warn, error, off')
    expect { logging(format: :xml) }.to raise_error(TaskerCore::ConfigurationError, /logging.format: :xml/)
  end

  it "hides what the application filters" do
    payload = { "card" => { "number" => "4111" }, "note" => "for card", "items" => [{ "pin" => 1, "n" => 2 }] }
    filtered = logging(filter: [:number, /\Apin\z/]).filtered(payload)
    expect(filtered)
      .to eq("card" => { "number" => "[FILTERED]" }, "note" => "for card",
             "items" => [{ "pin" => "[FILTERED]", "n" => 2 }])
    expect(logging.filtered(payload)).to equal payload
  end

  describe "the application's own lines" do
    let(:tagging) { ActiveSupport::TaggedLogging.new(logger) }

    it "are tagged only while a handler runs, and in its threads" do
      subject = described_class.new(logger: tagging, capacity: 10)
      subject.around(context) do
        tagging.info("one")
        subject.logger_for(context).info("two")
        Thread.new { subject.logger_for(context).info("three") }.join
      end
      tagging.info("four")
      subject.logger_for(context).info("five")
      tags = "[correlation_id=#{id}] [task=12] [step=reserve_stock] [attempt=1]"
      expect(written).to eq ["#{tags} one", "#{tags} two", "#{tags} three", "four", "#{tags} five"]
    end

    it "are not tagged when the settings disable tags" do
      before = [TaskerCore.config, TaskerCore.logger]
      TaskerCore.logger = tagging
      TaskerCore.configure(logging: { tags: false, format: "human" })
      TaskerCore.logging.around(context) do
        tagging.info("one")
        TaskerCore.logging.logger_for(context).info("two")
      end
      expect(written).to match ["one", /\A\[correlation_id=#{id}\] .* two\z/]
    ensure
      TaskerCore.configure(before.first)
      TaskerCore.logger = before.last
    end

    it "lose the tags when the handler raises" do
      subject = described_class.new(logger: tagging, capacity: 10)
      expect { subject.around(context) { raise "no" } }.to raise_error("no")
      tagging.info("after")
      expect(written).to eq ["after"]
    end

    it "become JSON with the context, and tags in a field" do
      logger.formatter = TaskerCore::JsonFormatter.new(fields: { service: "shop" })
      subject = described_class.new(logger: tagging, capacity: 10)
      tagging.tagged("request") do
        subject.around(context) { tagging.warn("one") }
        subject.write(Logger::INFO, "ours")
        tagging.error(ArgumentError.new("wrong"))
      end
      tagging.info({ a: 1 })
      tagging.tagged("local").info("six")
      lines = written.map { |line| JSON.parse(line) }
      expect(lines[0]).to include("level" => "warn", "message" => "one", "correlation_id" => id, "task_id" => 12,
                                  "step" => "reserve_stock", "tags" => ["request"], "service" => "shop")
      expect(lines[1]).to include("message" => "ours")
      expect(lines[2]).to include("message" => "wrong", "error.class" => "ArgumentError", "tags" => ["request"])
      expect(lines[3]).to include("message" => { a: 1 }.inspect, "correlation_id" => /\A\h{8}-/)
      expect(lines[3]).not_to have_key("tags")
      expect(lines[4]).to include("tags" => ["local"])
    end
  end
end
