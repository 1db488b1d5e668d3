# frozen_string_literal: true

require "bundler"
require "digest"
require "json"
require "open3"
require "time"
require "uri"

# The software bill of materials of a release, in the format CycloneDX 1.6: the crates that are compiled into the
# extension for any platform of the release, with their checksums, and the gems that it needs at run time, in the
# versions of Gemfile.lock.
class Sbom
  TARGETS = %w[x86_64-unknown-linux-gnu x86_64-unknown-linux-musl aarch64-unknown-linux-gnu aarch64-unknown-linux-musl
               x86_64-apple-darwin aarch64-apple-darwin].freeze
  EXTENSION = "tasker_core"

  # A failure of cargo. The message is one sentence.
  class Error < StandardError; end

  # @param gem [Gem::Specification]
  # @param lock [String] text of Gemfile.lock
  # @param crates [String] text of Cargo.lock
  # @param time [Time] of the release
  def initialize(gem, lock: File.read("Gemfile.lock"), crates: File.read("Cargo.lock"), time: Gem.source_date_epoch)
    @gem = gem
    @locked = Bundler::LockfileParser.new(lock).specs.to_h { |spec| [spec.name, spec] }
    @checksums = crates.scan(/^name = "(.+)"\nversion = "(.+)"\n(?:source = .+\n)?checksum = "(.+)"$/)
                       .to_h { |name, version, checksum| [[name, version], checksum] }
    @time = time
  end

  # @return [String] JSON text
  def to_json(*) = JSON.pretty_generate(document.merge("serialNumber" => serial))

  # @return [Hash]
  def document
    { "$schema" => "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat" => "CycloneDX",
      "specVersion" => "1.6", "version" => 1,
      "metadata" => { "timestamp" => @time.utc.iso8601, "component" => itself,
                      "supplier" => { "name" => @gem.authors.first } },
      "components" => (crates.map { |crate| component_of_crate(crate) } + gems.map { |spec| component_of_gem(spec) })
                        .sort_by { |component| component["bom-ref"] },
      "dependencies" => dependencies }
  end

  private

  def itself
    { "type" => "library", "bom-ref" => own_reference, "name" => @gem.name, "version" => @gem.version.to_s,
      "description" => @gem.summary, "licenses" => licenses(@gem.licenses), "purl" => own_reference }
  end

  # The same for the same release.
  def serial
    hex = Digest::SHA256.hexdigest(JSON.generate(document))
    "urn:uuid:#{hex[0, 8]}-#{hex[8, 4]}-8#{hex[13, 3]}-a#{hex[17, 3]}-#{hex[20, 12]}"
  end

  def component_of_crate(crate)
    { "type" => "library", "bom-ref" => reference(crate), "name" => crate.name, "version" => crate.version,
      "licenses" => licenses([crate.license]), "purl" => reference(crate),
      "hashes" => [{ "alg" => "SHA-256", "content" => @checksums.fetch([crate.name, crate.version]) }] }
  end

  def component_of_gem(spec)
    installed = Gem::Specification.find_all_by_name(spec.name, spec.version).first
    { "type" => "library", "bom-ref" => purl("gem", spec.name, spec.version), "name" => spec.name,
      "version" => spec.version.to_s, "licenses" => licenses(installed&.licenses),
      "purl" => purl("gem", spec.name, spec.version) }.compact
  end

  def licenses(expressions)
    expressions = expressions.to_a.compact
    [{ "expression" => expressions.map { |text| text.gsub("/", " OR ") }.join(" OR ") }] if expressions.any?
  end

  def own_reference = purl("gem", @gem.name, @gem.version)

  def purl(type, name, version) = "pkg:#{type}/#{name}@#{URI.encode_www_form_component(version.to_s)}"

  # The crates of this workspace are part of the gem.
  def reference(crate) = crate.registry ? purl("cargo", crate.name, crate.version) : own_reference

  def dependencies
    edges = crate_edges + gem_edges
    references = [own_reference, *crates.map { |crate| reference(crate) }, *gem_references]
    references.uniq.sort.map do |reference|
      { "ref" => reference,
        "dependsOn" => edges.filter_map { |from, to| to if from == reference && to != reference }.uniq.sort }
    end
  end

  # Gems

  # @return [Array<Bundler::LazySpecification>] runtime dependencies, direct and indirect
  def gems
    @gems ||= begin
      found = {}
      waiting = direct
      while (name = waiting.shift)
        next if found.key?(name) || !@locked.key?(name)

        found[name] = @locked.fetch(name)
        waiting.concat(found[name].dependencies.map(&:name))
      end
      found.values
    end
  end

  def direct = @gem.runtime_dependencies.map(&:name)

  def gem_references = gems.map { |spec| purl("gem", spec.name, spec.version) }

  def gem_edges
    known = gems.to_h { |spec| [spec.name, purl("gem", spec.name, spec.version)] }
    [*direct.filter_map { |name| [own_reference, known[name]] if known.key?(name) },
     *gems.flat_map do |spec|
       spec.dependencies.filter_map { |other| [known[spec.name], known[other.name]] if known.key?(other.name) }
     end]
  end

  # Crates

  Crate = Struct.new(:name, :version, :license, :registry)
  private_constant :Crate

  # @return [Array<Crate>] those of the registry
  def crates = @crates ||= crate_graph.flatten.uniq.select(&:registry)

  def crate_edges = crate_graph.map { |pair| pair.map { |crate| reference(crate) } }

  # @return [Array<Array(Crate, Crate)>] what a build for some target compiles, and for which crate. Cargo's metadata
  #   would also have crates of features that no crate enables.
  def crate_graph = @crate_graph ||= TARGETS.flat_map { |target| edges(tree(target)) }.uniq

  def edges(lines)
    path = []
    lines.filter_map do |line|
      depth, crate = parse(line)
      path = path.first(depth).push(crate)
      [path[-2], crate] if depth.positive?
    end
  end

  def parse(line)
    depth, package, license = line.match(/\A(\d+)(.+?)\|(.*?)(?: \(\*\))?$/).captures
    name, version, origin = package.split(" ", 3)
    [depth.to_i, Crate.new(name, version.delete_prefix("v"), license, !origin.to_s.start_with?("(/"))]
  end

  def tree(target)
    command = %w[cargo tree --locked --edges normal,build --prefix depth --format {p}|{l}]
    output, error, status = Open3.capture3(*command, "--package", EXTENSION, "--target", target)
    raise Error, "cargo tree failed: #{error.strip.lines.last}" unless status.success?

    output.lines(chomp: true)
  end
end
