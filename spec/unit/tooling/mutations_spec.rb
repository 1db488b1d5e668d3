# frozen_string_literal: true

require_relative "../../../bin/support/mutations"

RSpec.describe Mutations do
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }

  def write(file, text)
    path = File.join(@directory, file)
    FileUtils.mkdir_p(File.dirname(path))
    File.write(path, text)
  end

  def mutation(**facts)
    described_class::Mutation.new(name: "one", file: "lib/a.rb", from: "1 + 1", to: "1 - 1",
                                  rspec: ["spec/a_spec.rb", "adds"], **facts)
  end

  # Test runs with the block's verdict on each mutation; without a block, all pass.
  def tests(unmutated: [], &verdict)
    result = ->(name) { described_class::Tests::Result.new(name, "output\n") }
    failing = unmutated.to_h { |one| [one, result.call(:failed)] }
    instance_double(described_class::Tests, build: nil).tap do |tests|
      allow(tests).to receive(:failing) { |mutations| failing.slice(*mutations) }
      allow(tests).to receive(:run) { |one| result.call(verdict.call(one)) }
    end
  end

  def run(mutations, tests)
    out = StringIO.new
    scratch = instance_double(described_class::Scratch, log: nil)
    allow(scratch).to receive(:with).and_yield
    [described_class::Run.new(mutations, scratch: scratch, tests: tests, out: out).call, out.string]
  end

  before do
    write("lib/a.rb", "def two = 1 + 1\n")
    write("spec/a_spec.rb", "it \"adds\" do\n")
  end

  it "can each be made and have a test" do
    expect(described_class.load(root)).not_to be_empty
    expect { described_class.settings(root) }.not_to raise_error
  end

  it "must find their text exactly once" do
    expect(mutation.problem(@directory)).to be_nil
    expect(mutation(from: "2 + 2").problem(@directory)).to eq 'one: "2 + 2" occurs 0 times in lib/a.rb, must occur once'
    expect(mutation(from: "1").problem(@directory)).to include "occurs 2 times"
    expect(mutation(file: "lib/b.rb").problem(@directory)).to eq "one: no file lib/b.rb"
    expect(mutation(to: "1 + 1").problem(@directory)).to include "the same"
  end

  it "must name an existing test" do
    expect(mutation(rspec: ["spec/a_spec.rb", "divides"]).problem(@directory))
      .to eq 'one: no test "divides" in spec/a_spec.rb'
    expect(mutation(rspec: nil, cargo: %w[lib adds]).problem(@directory)).to include 'no test "adds" in lib'
    expect(mutation(rspec: nil).problem(@directory)).to include "needs either"
    write("list.yaml", YAML.dump(Array.new(2) { mutation.to_h.compact.transform_keys(&:to_s) }))
    expect { described_class.load(@directory, file: "list.yaml") }
      .to raise_error(described_class::ListError, /duplicate name/)
  end

  it "report survivors with exit status 1" do
    weak = mutation(name: "weak", to: "1 * 2")
    expect(run([mutation, weak], tests { |one| one.name == "weak" ? :passed : :failed }))
      .to match [1, /caught   one\nSURVIVED weak\nsurvived: weak \(lib.a.rb\): no test failed\n2 mutations, 1 caught\n/]
    expect(run([mutation], tests { :failed }).first).to eq 0
  end

  it "report tests that fail unmutated or do not run" do
    expect(run([mutation], tests { :broken })).to match [2, /BROKEN   one/]
    expect(run([mutation], tests(unmutated: [mutation]) { :failed }))
      .to match [2, /the test of one failed without any mutation/]
  end

  it "are made on a copy and undone there" do
    write(".gitignore", "tmp\n*.so\n")
    system("git", "init", "--quiet", chdir: @directory, exception: true)
    scratch = described_class::Scratch.new(@directory)
    scratch.refresh
    copied = File.join(scratch.root, "lib/a.rb")
    expect(scratch.with(mutation) { [File.read(copied), File.read("#{@directory}/lib/a.rb")] })
      .to eq ["def two = 1 - 1\n", "def two = 1 + 1\n"]
    expect(File.read(copied)).to eq "def two = 1 + 1\n"
    FileUtils.rm("#{@directory}/lib/a.rb")
    scratch.refresh
    expect(File).not_to exist(copied)
  end

  it "are not caught by a test that fails without them" do
    held = mutation(environment: { "TASKER_HELD_SETTING" => "a.b" })
    expect(run([held], tests(unmutated: [held]) { :failed })).to match [2, /BROKEN   one.*0 caught/m]
    unbuilt = tests { :failed }
    allow(unbuilt).to receive(:build).and_return(described_class::Tests::Result.new(:broken, "error[E0308]"))
    expect(run([mutation], unbuilt)).to match [2, /BROKEN   one\nerror.E0308/]
  end

  it "are caught by failing or hanging tests only" do
    server = instance_double(described_class::Server, template_url: "postgresql:///template")
    in_copy = described_class::Tests.new(@directory, server: server)
    verdict = lambda do |script, mutation|
      allow(in_copy).to receive(:spawn) do |environment, *_, **options|
        Process.spawn(environment, RbConfig.ruby, "--disable-gems", "-e", script, **options)
      end
      in_copy.run(mutation).verdict
    end
    expect(verdict.call("puts '0 examples, 0 failures, 1 error occurred outside of examples'; exit 1", mutation))
      .to eq :broken
    expect(verdict.call("puts '1 example, 0 failures, 1 error occurred outside of examples'; exit 1", mutation))
      .to eq :broken
    expect(verdict.call("puts '1 example, 1 failure'; exit 1", mutation)).to eq :failed
    expect(verdict.call("puts '1 example, 0 failures'", mutation)).to eq :passed
    rust = mutation(rspec: nil, cargo: %w[lib adds], file: "ext/a.rs")
    expect(verdict.call("puts 'test a::adds ... FAILED'; exit 101", rust)).to eq :broken
    stub_const("Mutations::Tests::LIMIT", 0.2)
    expect(verdict.call("sleep", mutation)).to eq :failed
  end

  it "of Rust are judged by the named test alone" do
    server = instance_double(described_class::Server, template_url: "postgresql:///template")
    in_copy = described_class::Tests.new(@directory, server: server)
    verdict = lambda do |line, status|
      allow(in_copy).to receive(:spawn) do |environment, *command, **options|
        script = command.include?("--no-run") ? "exit" : "puts #{line.inspect}; exit #{status}"
        Process.spawn(environment, RbConfig.ruby, "--disable-gems", "-e", script, **options)
      end
      in_copy.run(mutation(rspec: nil, cargo: %w[lib adds], file: "ext/a.rs")).verdict
    end
    expect(verdict.call("test a::adds ... FAILED", 101)).to eq :failed
    expect(verdict.call("test a::adds ... ok", 0)).to eq :passed
    expect(verdict.call("test a::adds_more ... FAILED", 101)).to eq :broken
    expect(verdict.call("running 0 tests", 0)).to eq :broken
  end
end
