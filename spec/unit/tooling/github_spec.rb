# frozen_string_literal: true

require "rb_sys/toolchain_info"
require "yaml"
require_relative "../../../bin/support/sbom"

RSpec.describe "The CI workflow" do
  subject(:jobs) { YAML.safe_load_file(".github/workflows/ci.yml").fetch("jobs") }

  let(:rows) { jobs.dig("versions", "strategy", "matrix", "include") }
  let(:steps) { jobs.values.flat_map { |job| job.fetch("steps") } }

  def gemspec = Gem::Specification.load("tasker_core.gemspec")

  def values(column) = rows.map { |row| row.fetch(column) }.uniq.sort_by(&:to_f)

  it "runs .ci/run, and the tests with other versions" do
    expect(jobs["check"]["steps"].filter_map { |step| step["run"] }).to include(".ci/run")
    expect(jobs["versions"]["steps"].filter_map { |step| step["run"] })
      .to include("bin/setup", "bundle exec rake spec:rust spec:ruby")
  end

  it "covers every supported version of Ruby, Rails and PostgreSQL" do
    expect(values("ruby")).to eq %w[3.1 3.2 3.3 3.4]
    expect(values("rails")).to eq %w[7.1 7.2 8.0 8.1]
    expect(values("postgresql")).to eq %w[13 14 15 16 17 18]
  end

  it "lists only versions that the gem and Rails support" do
    rails = gemspec.dependencies.find { |dependency| dependency.name == "railties" }.requirement
    rows.each do |row|
      expect(gemspec.required_ruby_version).to be_satisfied_by(Gem::Version.new(row["ruby"]))
      expect(rails).to be_satisfied_by(Gem::Version.new(row["rails"]))
      expect(row["ruby"]).not_to eq("3.1"), "Rails #{row['rails']} needs Ruby 3.2" if row["rails"].start_with?("8")
    end
  end

  it "pins each action to a commit" do
    expect(steps.filter_map { |step| step["uses"] }).to all(match(%r{\A[\w-]+/[\w-]+@\h{40}\z}))
  end

  it "calls existing programs" do
    called = steps.filter_map { |step| step["run"] }.filter_map { |command| command[%r{\A\.?\w+/\w+}] }.uniq
    expect(called).to match_array %w[.ci/run .github/install bin/setup]
    expect(called).to all(satisfy { |path| File.executable?(path) })
  end

  it "passes Rails to the Gemfile" do
    expect(jobs.dig("versions", "env", "RAILS_VERSION")).to eq "~> ${{ matrix.rails }}.0"
    expect(File.read("Gemfile")).to include('ENV.fetch("RAILS_VERSION"')
  end
end

RSpec.describe "The release workflow" do
  subject(:jobs) { YAML.safe_load_file(".github/workflows/release.yml").fetch("jobs") }

  let(:platforms) { jobs.dig("precompiled", "strategy", "matrix", "platform") }
  let(:steps) { jobs.values.flat_map { |job| job.fetch("steps") } }
  let(:commands) { jobs.transform_values { |job| job["steps"].filter_map { |step| step["run"] }.join("\n") } }

  it "builds for Linux with glibc and musl and for macOS, on x86_64 and aarch64" do
    expect(platforms).to match_array %w[x86_64-linux x86_64-linux-musl aarch64-linux aarch64-linux-musl x86_64-darwin
                                        arm64-darwin]
    known = RbSys::ToolchainInfo::DATA.slice(*platforms).values
    expect(known.map { |row| row["rust-target"] }).to match_array Sbom::TARGETS
    expect(known.map { |row| row["supported"] }).to all(be(true))
  end

  it "builds for, and installs with, every Ruby that CI tests" do
    tested = YAML.safe_load_file(".github/workflows/ci.yml").dig("jobs", "versions", "strategy", "matrix", "include")
    rubies = tested.map { |row| row["ruby"] }.uniq.sort
    expect(commands["precompiled"][/--ruby-versions (\S+)/, 1].split(",")).to eq rubies
    installed = jobs.values_at("install", "install-musl").map { |job| job.dig("strategy", "matrix") }
    expect(installed.map { |matrix| matrix["ruby"] }).to all(eq(rubies))
    expect(installed.flat_map { |matrix| matrix["platform"] }).to match_array platforms
    expect(installed.flat_map { |matrix| matrix["include"].map { |row| row["platform"] } }).to match_array platforms
  end

  it "builds with the locked versions of the build's gems" do
    expect(jobs.dig("precompiled", "env", "BUNDLE_GEMFILE")).to end_with "/.github/release/Gemfile"
    Bundler.with_unbundled_env do
      script = 'puts Gem.loaded_specs.values_at("rake", "rake-compiler", "rb_sys").map(&:full_name)'
      printed = IO.popen([{ "BUNDLE_GEMFILE" => ".github/release/Gemfile" }, "bundle", "exec", "ruby", "-e", script],
                         &:read)
      expect(printed.split).to eq(Gem.loaded_specs.values_at("rake", "rake-compiler", "rb_sys").map(&:full_name))
    end
  end

  it "publishes only after every installation, and the source gem last" do
    expect(jobs.dig("publish", "needs")).to match_array(jobs.keys - ["publish"])
    expect(jobs["publish"]["environment"]).to eq "release"
    expect(commands["publish"]).to include('in "tasker_core-$version"-*.gem "tasker_core-$version.gem"')
  end

  it "attaches checksums, the bill of materials and attestations" do
    expect(commands["source"]).to include("rake gem sbom")
    expect(commands["publish"]).to include("sha256sum -- *.gem *.cdx.json", "gh release create")
    attest = jobs["publish"]["steps"].find { |step| step["uses"].to_s.start_with?("actions/attest@") }
    expect(attest["with"]).to eq("subject-path" => "pkg/*")
  end

  it "may write only when it publishes, and stores no key" do
    expect(YAML.safe_load_file(".github/workflows/release.yml")["permissions"]).to eq("contents" => "read")
    expect(jobs.select { |_, job| job["permissions"] }.keys).to eq ["publish"]
    expect(File.read(".github/workflows/release.yml")).not_to include("secrets.")
  end

  it "pins each action to a commit" do
    expect(steps.filter_map { |step| step["uses"] }).to all(match(%r{\A[\w-]+/[\w-]+@\h{40}\z}))
  end
end

RSpec.describe "The issue forms" do
  Dir[".github/ISSUE_TEMPLATE/*.yml"].reject { |path| path.end_with?("/config.yml") }.each do |path|
    it "#{File.basename(path)} has the required fields" do
      form = YAML.safe_load_file(path)
      expect(form).to include("name" => be_a(String), "description" => be_a(String))
      fields = form.fetch("body").reject { |field| field["type"] == "markdown" }
      expect(fields.map { |field| field["type"] }).to all(match(/\A(?:textarea|input|dropdown|checkboxes)\z/))
      expect(fields.map { |field| field["id"] }.uniq.size).to eq fields.size
      expect(fields.map { |field| field.dig("attributes", "label") }).to all(be_a(String))
    end
  end
end
