# frozen_string_literal: true

RSpec.describe TaskerCore::Logging::Format do
  cases = JSON.parse(File.read(File.expand_path("../../fixtures/logging/lines.json", __dir__)))

  def record(facts)
    seconds, micros = facts["microseconds"].divmod(1_000_000)
    context = TaskerCore::Correlation::Context.new(**facts["context"].symbolize_keys)
    severity = %w[debug info warn error].index(facts["level"])
    described_class::Record.new(Time.at(seconds, micros), severity, facts["message"], context, facts["process"],
                                facts["fields"].to_h.transform_keys(&:to_sym),
                                facts["constants"].to_h.transform_keys(&:to_sym))
  end

  it "shares its cases with Rust" do
    expect(cases.size).to be >= 5
  end

  cases.each do |facts|
    it "writes #{facts['about']}" do
      expect(described_class::Json.line(record(facts))).to eq facts["json"]
      expect(described_class::Human.line(record(facts))).to eq facts["human"]
    end
  end

  it "writes values of any kind and encoding" do
    odd = { word: :x, binary: "a\xff\x00".b, broken: "\xff", nan: Float::NAN, list: ["\xff", Object],
            time: Time.utc(2026) }
    facts = cases.first.merge("fields" => odd)
    parsed = JSON.parse(described_class::Json.line(record(facts)))
    expect(parsed.slice("word", "broken", "nan")).to eq("word" => "x", "broken" => "\u{fffd}", "nan" => "NaN")
    expect(parsed["binary"]).to start_with("a")
    expect(described_class::Human.line(record(facts)).lines.size).to eq 1
  end
end
