# frozen_string_literal: true

# A workflow file with any content compiles, or raises an error that names the file and the problem.
RSpec.describe TaskerCore::Workflows::YamlFile do
  around { |example| Dir.mktmpdir { |directory| Dir.chdir(directory) { example.run } } }

  let(:good) { File.binread("#{root}/spec/dummy/config/tasker/workflows/yaml_diamond.yaml") }

  let(:odd) do
    ["\0", "\t", "\xFF".b, "\xC3".b, "&a ", "*a ", "!ruby/object:Object ", "!!float ", "!!binary ", "<<: ", "? ", "- ",
     ": ", "{", "}", "[", "]",
     "'", '"', "|", ">", "%YAML 9.9\n", "---\n", "...\n", "\r", "\u2028".b, "\uFEFF".b, "~", "null", ".nan", ".inf",
     "1e999", "0o7", "2026-01-02",
     "2026-01-02 10:00:00 Z", "yes", "=", "\n", "  ", ":a", "1_000", "0x1F", "-", "1:30:00", "9" * 400].map(&:b)
  end

  def file(text)
    File.binwrite("flow.yaml", text)
    "flow.yaml"
  end

  def compiled(text) = described_class.new(file(text)).compiled

  # A bomb must fail within this time, even on a busy machine.
  def within_patience(&block)
    Timeout.timeout(20, &block)
  end

  bomb = "l0: &l0 []\n"
  (1..29).each { |level| bomb += "l#{level}: &l#{level} [#{(["*l#{level - 1}"] * 9).join(', ')}]\n" }
  step = "steps: [{ name: a, handler: A"
  {
    "aliases of aliases" => ["#{bomb}name: bomb\n", /aliases that expand to more than 1000000 values/],
    "an alias of itself" => ["name: a\nsteps: &s [*s]\n", /nested too deeply or inside itself|Unknown alias/],
    "an object's tag" => ["name: !ruby/object:Gem::Requirement {}\n",
                          /is not valid YAML: Tried to load unspecified class/],
    "a tag of Ruby's" => ["name: !ruby/regexp /a/\n", /is not valid YAML: Tried to load unspecified class: Regexp/],
    "a number's tag on a word" => ["name: !!float abc\n",
                                   /is not valid YAML: invalid value for Float|steps: is missing/],
    "a date" => ["name: a\nversion: 2026-01-02\n#{step} }]\n",
                 /is not valid YAML: Tried to load unspecified class: Date/],
    "a time" => ["name: a\nversion: 2026-01-02 10:00:00\n#{step} }]\n",
                 /is not valid YAML: Tried to load unspecified class: Time/],
    "a name that is a number" => ["name: 12\n#{step} }]\n", /name: 12 \(integer\) must be a string/],
    "keys that are no text" => ["? [1, 2]\n: x\nname: a\n1: 2\n~: 3\n#{step} }]\n",
                                /1: 2 \(integer\) is an unknown key/],
    "a duplicate key" => ["name: a\n#{step}, handler: B }]\n", /line 2: the key `handler` is given twice/],
    "nothing" => ["", /the document: must be an object with named fields/],
    "only a comment" => ["# later\n", /the document: must be an object with named fields/],
    "a list" => ["- a\n", /the document: \["a"\] \(array\) must be an object/],
    "a BOM and nothing more" => ["\uFEFF", /the document: must be an object/],
    "Latin-1" => ["name: caf\xE9\n".b, /is not UTF-8/],
    "null bytes" => ["name: a\0b\n", /is not valid YAML: .*control characters are not allowed/],
    "an escaped null character" => ["name: \"a\\0b\"\n#{step} }]\n", /name: has a null character/],
    "a tab" => ["name: a\nsteps:\n\t- name: a\n", /is not valid YAML: .*cannot start any token/],
    "no number" => ["name: a\n#{step}, config: { n: .nan } }]\n",
                    /cannot be written as JSON: steps\[0\].config.n: NaN/],
    "endlessness" => ["name: a\n#{step}, timeout: .inf }]\n", /cannot be written as JSON: .*Infinity/],
    "an exponent without end" => ["name: a\n#{step}, config: { n: 1.0e+999 } }]\n",
                                  /cannot be written as JSON: .*Infinity/],
    "too much depth" => ["name: a\nsteps: #{'[' * 500}#{']' * 500}\n", /nested more than 200 levels deep/],
    "more depth than JSON can have" => ["name: a\nsteps: #{'[' * 150}#{']' * 150}\n",
                                        /cannot be read: recursion limit exceeded/],
    "far too much depth" => ["steps: #{'[' * 100_000}#{']' * 100_000}\n", /nested more than 200 levels deep/],
    "ten megabytes of one word" => ["name: #{'a' * 10_000_000}\n",
                                    /name: "a{79}… \(string\) must be up to 100|takes too long to parse/],
    "ten megabytes in quotes" => ["name: '#{'a' * 10_000_000}'\n", /name: "a{79}… \(string\) must be up to 100/],
    "thousands of keys" => [Array.new(30_000) { |number| "k#{number}: 1\n" }.join,
                            /k0: 1 \(integer\) is an unknown key.*; and 299\d\d more/],
    "two documents" => ["name: a\n---\nname: b\n", /has 2 documents, but must have one/]
  }.each do |what, (text, message)|
    it "is rejected with #{what}" do
      within_patience do
        expect { compiled(text) }.to raise_error(TaskerCore::WorkflowError, /\A"?flow.yaml"?.*#{message}/m)
      end
    end
  end

  it "accepts a BOM and aliases that stay small" do
    text = "\uFEFFname: a\nsteps:\n  - { name: a, handler: A, retry: &often { max_attempts: 9 } }\n  " \
           "- { name: b, handler: A, retry: { <<: *often, base: 2s } }\n  - { name: c, handler: A, retry: *often }\n"
    expect(compiled(text).step_names).to eq %w[a b c]
  end

  it "names an unreadable path" do
    File.symlink("round", "round")
    { "." => /Is a directory/, "nowhere.yaml" => /No such file/, "a\0b" => /null byte/, "x" * 5000 => /name too long/,
      "round" => /symbolic links/ }.each do |path, message|
      expect { described_class.new(path) }.to raise_error(TaskerCore::WorkflowError, message)
    end
  end

  # SEED=… repeats a run, MUTATIONS=… makes it longer.
  it "compiles or is rejected with its path after random edits" do
    seed = Integer(ENV.fetch("SEED") { RSpec.configuration.seed })
    random = Random.new(seed)
    text = nil
    compiled = Integer(ENV.fetch("MUTATIONS", 1500)).times.count do
      text = mutated(good, random)
      begin
        within_patience { compiled(text) }
      rescue TaskerCore::WorkflowError => e
        raise "without its path: #{e.message}" unless e.message.match?(/\A"?flow.yaml/)
      end
    end
    expect(compiled).to be_positive
  rescue StandardError => e
    raise e.class, "#{e.message} (SEED=#{seed}) in #{text.inspect}", e.backtrace
  end

  # Replaces one to three bytes, inserts odd pieces, and cuts, doubles or moves stretches.
  def mutated(text, random)
    text = text.dup
    random.rand(1..3).times do
      from = random.rand(text.bytesize)
      length = random.rand(1..12)
      case random.rand(5)
      when 0 then text.setbyte(from, random.rand(256))
      when 1 then text.insert(from, odd.sample(random: random))
      when 2 then text.slice!(from, length)
      when 3 then text.insert(from, text[from, length])
      when 4 then text.slice!(from, length).then { |cut| text.insert(random.rand(text.bytesize), cut) }
      end
    end
    text
  end
end
