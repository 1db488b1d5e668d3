# frozen_string_literal: true

# docs/testing.md maps each scenario to its tests, which must exist.
RSpec.describe "docs/testing.md" do
  let(:root) { File.expand_path("../../..", __dir__) }
  let(:rows) do
    File.readlines("#{root}/docs/testing.md").grep(/\A\| S\d+ /).map { |line| line.split(" | ").map(&:strip) }
  end
  let(:rust) { Dir["#{root}/ext/**/tests/**/*.rs"].map { |path| File.read(path) }.join }
  let(:ruby) { Dir["#{root}/spec/integration/**/*_spec.rb"].map { |path| File.read(path) }.join }

  it "has a row for each scenario" do
    expect(rows.map { |row| row.first[/S\d+/] }).to eq((1..22).map { |number| "S#{number}" })
  end

  it "names existing Rust tests, and all with a scenario's number" do
    named = rows.flat_map { |row| row[1].scan(/`(\w+)`/).flatten }
    expect(named.reject { |name| rust.include?("fn #{name}()") }).to eq []
    expect(rust.scan(/fn (s\d+_\w+)\(\)/).flatten - named).to eq []
  end

  it "names existing Ruby examples" do
    named = rows.flat_map { |row| row[2].scan(/"([^"]+)"/).flatten }
    expect(named.size).to be >= rows.size
    expect(named.uniq.reject { |name| ruby.include?("describe \"#{name}\"") }).to eq []
  end
end
