# frozen_string_literal: true

require "yaml"

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
