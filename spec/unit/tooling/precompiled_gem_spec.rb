# frozen_string_literal: true

require "tmpdir"
require_relative "../../../bin/support/precompiled_gem"
require_relative "../../../bin/support/rubies"

RSpec.describe PrecompiledGem do
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }

  let(:source) { Gem::Specification.load("tasker_core.gemspec") }
  let(:libraries) { { "3.3" => library("3.3"), "3.1" => library("3.1") } }
  let(:specification) { described_class.new(source, libraries).specification }

  def library(version)
    "#{@directory}/#{version}/tasker_core.so".tap do |path|
      FileUtils.mkdir_p(File.dirname(path))
      File.write(path, version)
    end
  end

  it "has a library for each Ruby and no Rust" do
    added = specification.files - source.files
    removed = source.files - specification.files
    expect(added).to contain_exactly("lib/tasker_core/3.1/tasker_core.so", "lib/tasker_core/3.3/tasker_core.so")
    expect(removed).to include("Cargo.toml", "Cargo.lock", "ext/tasker_core/extconf.rb",
                               "ext/tasker_core/build_requirements.rb", "ext/orchestrator/src/lib.rs")
    expect(removed).to all(match(%r{\ACargo\.|\Aext/\w+}))
    expect(specification.files.grep(/\Aext/)).to all(end_with(".md"))
  end

  it "builds nothing when it is installed" do
    expect(specification.extensions).to be_empty
    expect(source.dependencies.map(&:name) - specification.dependencies.map(&:name)).to eq ["rb_sys"]
    expect(source.extensions).not_to be_empty
  end

  it "is for this platform, and for the Rubies from the oldest to the newest" do
    expect(Gem::Platform.match_spec?(specification)).to be true
    expect(specification.platform.to_s).not_to include("gnu") # which RubyGems before 3.3.22 does not know
    accepted = %w[3.0.6 3.1.0 3.3.9 3.4.0].select do |version|
      specification.required_ruby_version.satisfied_by?(Gem::Version.new(version))
    end
    expect(accepted).to eq %w[3.1.0 3.3.9]
  end

  it "names the Rubies in its range that it has no library for" do
    expect(described_class.new(source, libraries).gaps).to eq ["3.2"]
    expect(described_class.new(source, { "3.1" => library("3.1") }).gaps).to be_empty
  end

  it "contains the files and the libraries" do
    path = described_class.new(source, { "3.1" => library("3.1") }).build("#{@directory}/pkg")
    Gem::Package.new(path).extract_files("#{@directory}/unpacked")
    expect(File.read("#{@directory}/unpacked/lib/tasker_core/3.1/tasker_core.so")).to eq "3.1"
    expect(File.read("#{@directory}/unpacked/lib/tasker_core.rb")).to eq File.read("lib/tasker_core.rb")
  end

  it "is what the release's containers build" do
    rakefile = File.read("Rakefile")
    expect(rakefile).to include("extension.cross_compiling { |specification| PrecompiledGem.strip(specification) }")
  end
end

RSpec.describe Rubies do
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }

  def ruby(name, version, engine: "ruby")
    "#{@directory}/#{name}/bin/ruby".tap do |path|
      FileUtils.mkdir_p(File.dirname(path))
      File.write(path, "#!/bin/sh\necho #{engine}\necho #{version}\n")
      File.chmod(0o755, path)
    end
  end

  it "finds the newest program of each version, and this one" do
    ruby("3.2.1", "3.2.1")
    newest = ruby("3.2.10", "3.2.10")
    ruby("2.7", "2.7.8")
    ruby("jruby", "3.4.2", engine: "jruby")
    current = RUBY_VERSION[/\d+\.\d+/]
    expect(described_class.new(environment: {}, directories: [@directory]).all)
      .to eq({ "3.2" => newest }.merge(current == "3.2" ? {} : { current => RbConfig.ruby }).sort.to_h)
  end

  it "uses only those in NATIVE_RUBIES if it is set" do
    named = [ruby("a", "3.4.1"), ruby("b", "3.3.1"), "#{@directory}/missing"]
    found = described_class.new(environment: { "NATIVE_RUBIES" => named.join(":") }, directories: [@directory]).all
    expect(found).to eq("3.3" => named[1], "3.4" => named[0])
  end
end
