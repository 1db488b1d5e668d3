# frozen_string_literal: true

require "ostruct"

RSpec.describe TaskerCore::Support::JsonValue do
  point = Struct.new(:x, :y)
  nan = Float::NAN

  {
    "a large integer" => [10**40, 10**40],
    "a BigDecimal" => [BigDecimal("19.900000000000000000000000000001"), "19.900000000000000000000000000001"],
    "a BigDecimal of many digits" => [BigDecimal("1e1000000000"), "0.1e1000000001"],
    "a Rational" => [Rational(1, 3), "1/3"],
    "a Complex" => [Complex(1, 2.5), "1+2.5i"],
    "a symbol" => [:word, "word"],
    "a string in Latin-1" => ["caf\xE9".dup.force_encoding("ISO-8859-1"), "café"],
    "bytes that are UTF-8" => ["café".b, "café"],
    "a time of whole milliseconds" => [Time.at(0, 5, :millisecond).utc, "1970-01-01T00:00:00.005Z"],
    "a time of nanoseconds" => [Time.at(0, 7, :nanosecond).utc, "1970-01-01T00:00:00.000000007Z"],
    "a time in a zone" => [Time.at(0, 7, :microsecond).in_time_zone("Europe/Berlin"),
                           "1970-01-01T01:00:00.000007000+01:00"],
    "a DateTime" => [DateTime.new(2026, 1, 2, 3, 4, Rational(11, 2)), "2026-01-02T03:04:05.500+00:00"],
    "a date" => [Date.new(2026, 1, 2), "2026-01-02"],
    "a duration of seconds and a half" => [1.5.seconds, 1.5],
    "a duration of minutes" => [2.minutes, 120],
    "a range" => [[1..3, 1...3, (1..)], %w[1..3 1...3 1..]],
    "a range of times" => [Time.at(0).utc..Time.at(0, 7, :microsecond).utc,
                           "1970-01-01T00:00:00.000Z..1970-01-01T00:00:00.000007000Z"],
    "a Struct" => [point.new(1.5.seconds, [Rational(1, 2)]), { "x" => 1.5, "y" => ["1/2"] }],
    "an OpenStruct" => [OpenStruct.new(a: 1.5.seconds), { "a" => 1.5 }], # rubocop:disable Style/OpenStructUse
    "a Set" => [Set[1.5.seconds], [1.5]],
    "an Enumerator" => [[1.5.seconds].each, [1.5]],
    "a class" => [String, "String"],
    "an exception" => [StandardError.new("no"), "no"],
    "parameters of a request" => [ActionController::Parameters.new(a: { b: "1" }), { "a" => { "b" => "1" } }],
    "an object with its own as_json" => [Class.new { def as_json(*) = { wait: 1.5.seconds } }.new, { "wait" => 1.5 }],
    "an object with to_h" => [Class.new { def to_h = { wait: 1.5.seconds } }.new, { "wait" => 1.5 }],
    "keys that are no text" => [{ 1 => 1, nil => 2, Time.at(0, 7, :microsecond).utc => 3 },
                                { "1" => 1, "" => 2, "1970-01-01T00:00:00.000007000Z" => 3 }]
  }.each do |what, (value, plain)|
    it "writes #{what}" do
      expect(JSON.parse(described_class.json({ v: value }))).to eq("v" => plain)
    end
  end

  {
    "NaN" => [{ items: [1, { price: nan }] }, "result.items[1].price: NaN (Float)"],
    "an infinity" => [[-Float::INFINITY], "result[0]: -Infinity (Float)"],
    "a BigDecimal that is no number" => [[BigDecimal("NaN")], "result[0]: NaN (BigDecimal)"],
    "an infinite BigDecimal" => [[BigDecimal("-Infinity")], "result[0]: -Infinity (BigDecimal)"],
    "NaN in a Struct" => [point.new(1, nan), "result.y: NaN (Float)"],
    "NaN in a Set" => [{ set: Set[nan] }, "result.set[0]: NaN (Float)"],
    "NaN in an Enumerator" => [{ list: [2, nan].each }, "result.list[1]: NaN (Float)"],
    "NaN in a Complex" => [{ c: Complex(1, nan) }, "result.c: NaN (Float)"],
    "NaN in a range" => [{ r: 0.5..Float::INFINITY }, "result.r: Infinity (Float)"],
    "a duration without end" => [{ wait: ActiveSupport::Duration.seconds(Float::INFINITY) },
                                 "result.wait: Infinity (Float)"],
    "broken UTF-8" => [{ text: "\xff" }, "result.text: a String that is not valid UTF-8"],
    "bytes that are no UTF-8" => [{ text: "\xff".b }, "result.text: a String that is not valid UTF-8"],
    "a broken string in another encoding" => [{ text: "\xD8\x00".dup.force_encoding("UTF-16BE") },
                                              "result.text: a String in UTF-16BE cannot be written"],
    "a key of broken UTF-8" => [{ "\xff" => 1 }, "a String that is not valid UTF-8"],
    "two keys with one text" => [{ a: 1, "a" => 2 }, "result.a: two keys of one Hash are written \"a\""],
    "an object as a key" => [{ Object.new => 1 }, "a key of the class Object has no JSON representation"],
    "a plain object" => [{ a: [Object.new] },
                         "result.a[0]: Object has no JSON representation: pass its values, or define as_json or to_h"],
    "a Proc" => [{ a: -> {} }, "result.a: Proc has no JSON representation"],
    "an IO" => [{ a: $stdout }, "result.a: IO has no JSON representation"],
    "a class without a name" => [{ a: Class.new }, "result.a: an anonymous class or module"],
    "a BasicObject" => [{ a: BasicObject.new }, "result.a: a BasicObject has no JSON representation"]
  }.each do |what, (value, message)|
    it "refuses #{what} with its path" do
      expect { described_class.json(value, "result") }
        .to raise_error(described_class::Unwritable, /\A.*#{Regexp.escape(message)}/)
    end
  end

  it "cuts the path of an object that contains itself" do
    round = {}.tap { |hash| hash[:self] = hash }
    expect { described_class.json(round, "input") }
      .to raise_error(described_class::Unwritable, "input#{'.self' * 7}…: nested too deeply or inside itself")
  end

  it "keeps microseconds and decimals of Active Record's objects" do
    attempt = TaskerCore::StepAttempt.new(task_id: 1, position: 0, token: 1,
                                          started_at: Time.at(0, 7, :microsecond).utc)
    expect(described_class.of(attempt)).to include("started_at" => "1970-01-01T00:00:00.000007000Z", "task_id" => 1)
  end

  it "names the path in inputs, results and event payloads" do
    task = Diamond.create!(n: 2)
    TaskerCore.events.register("values.checked")
    { "input.n[0]" => -> { Diamond.create!(n: [nan]) },
      "input.n" => -> { TaskerCore::Operations::TaskSearch.new({ input: { n: nan } }) },
      "result.n" => -> { task.step("a").complete!({ n: nan }, reason: "trial", by: "spec") },
      "payload.n" => -> { TaskerCore.events.publish("values.checked", { n: nan }) } }.each do |path, call|
      expect(&call).to raise_error(TaskerCore::InputError,
                                   /cannot be written as JSON: #{Regexp.escape(path)}: NaN \(Float\)/) { |error|
        expect(error.problems.first["field"]).to eq path
      }
    end
  end

  it "has each class documented in docs/values.md" do
    document = File.read("#{root}/docs/values.md")
    %w[BigDecimal Rational Complex Time Date Duration Range Hash Set Enumerator Struct Data Class].each do |type|
      expect(document).to include(type)
    end
  end
end
