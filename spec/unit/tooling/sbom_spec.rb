# frozen_string_literal: true

require "json_schemer"
require "open3"
require_relative "../../../bin/support/sbom"

RSpec.describe Sbom do
  gem = Gem::Specification.load("tasker_core.gemspec")
  bill = described_class.new(gem, time: Time.utc(2026, 1, 2))
  document = nil

  before { document ||= JSON.parse(bill.to_json) }

  def purls(document, type) = document["components"].map { |part| part["purl"] }.grep(/\Apkg:#{type}/)

  def locked = File.read("Cargo.lock").scan(/^name = "(.+)"\nversion = "(.+)"\nsource/)

  it "is valid in its format" do
    directory = "spec/fixtures/cyclonedx"
    read = ->(name) { JSON.parse(File.read("#{directory}/#{name}")) }
    schema = JSONSchemer.schema(read.call("bom-1.6.SNAPSHOT.schema.json"),
                                ref_resolver: ->(uri) { read.call(File.basename(uri.path)) })
    expect(schema.validate(document).map { |problem| problem["error"] }).to be_empty
    expect(schema.valid?(document.merge("components" => [{ "type" => "crate" }]))).to be false
  end

  # The library contains the path of each file whose code may panic.
  it "has every crate in the library" do
    library = File.binread(Dir["lib/tasker_core/tasker_core.{so,bundle}"].first)
    compiled = library.scan(%r{/([a-z][\w-]*)-(\d+\.\d+\.\d+[\w.+-]*)/src/}).uniq & locked
    expect(compiled.size).to be > 30
    expect(purls(document, "cargo")).to include(*compiled.map { |name, version| "pkg:cargo/#{name}@#{version}" })
  end

  it "has the crates of other platforms, and none of tests" do
    names = purls(document, "cargo").map { |purl| purl[%r{cargo/(.+)@}, 1] }
    expect(names).to include("tokio", "magnus", "security-framework")
    expect(names).not_to include("proptest", "stateright", "windows-sys", "sqlx-sqlite")
    expect(names - locked.map(&:first)).to be_empty
  end

  it "has every gem that the gem needs at run time, and no other" do
    gems = purls(document, "gem")
    expect(gems).to include(*gem.runtime_dependencies.map { |dependency| start_with("pkg:gem/#{dependency.name}@") })
    expect(gems).to include(start_with("pkg:gem/activesupport@"), start_with("pkg:gem/concurrent-ruby@"))
    expect(gems.grep(/rspec|rubocop|json_schemer/)).to be_empty
  end

  it "names the licenses of all, and the checksums of crates" do
    expect(document["components"].reject { |part| part["licenses"] }.map { |part| part["purl"] }).to be_empty
    crates = document["components"].select { |part| part["purl"].start_with?("pkg:cargo") }
    lock = File.read("Cargo.lock")
    crates.each do |crate|
      entry = lock[/^name = "#{crate['name']}"\nversion = "#{Regexp.escape(crate['version'])}"\n.*?(?:\n\n|\z)/m]
      expect(entry).to include(%(checksum = "#{crate.dig('hashes', 0, 'content')}"))
    end
  end

  it "connects each part to the gem" do
    edges = document["dependencies"].to_h { |node| [node["ref"], node["dependsOn"]] }
    reached = [document.dig("metadata", "component", "bom-ref")]
    reached.each { |reference| reached.concat(edges.fetch(reference) - reached) }
    expect(reached.drop(1)).to match_array(document["components"].map { |part| part["bom-ref"] })
  end

  it "is the same for the same release" do
    expect(described_class.new(gem, time: Time.utc(2026, 1, 2)).to_json).to eq bill.to_json
    expect(document.dig("metadata", "timestamp")).to eq "2026-01-02T00:00:00Z"
    expect(document.dig("metadata", "component")).to include("name" => "tasker_core", "version" => TaskerCore::VERSION)
  end
end
