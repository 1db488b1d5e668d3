# frozen_string_literal: true

# The extension is compiled on the user's machine, from the packaged files.
RSpec.describe "The gem's files" do
  subject(:files) { Gem::Specification.load("tasker_core.gemspec").files }

  let(:members) { File.read("Cargo.toml")[/^members = \[(.*)\]$/, 1].scan(/"([^"]+)"/).flatten }

  it "have every member of the workspace, without which cargo does nothing" do
    expect(members).to include("ext/orchestrator", "ext/tasker_core")
    expect(files).to include("Cargo.toml", "Cargo.lock")
    expect(files).to include(*members.map { |member| "#{member}/Cargo.toml" })
    expect(files).to include(*members.map { |member| "#{member}/src/lib.rs" })
  end

  it "have everything that generators read" do
    read = Dir.glob("lib/generators/**/*", File::FNM_DOTMATCH).select { |path| File.file?(path) }
    expect(read.grep(/\.tt\z/)).not_to be_empty
    expect(files).to include(*read, *Dir["db/migrate/*.rb"], "config/tasker-core.yaml")
  end

  it "have no tests" do
    expect(files.grep(%r{\Aspec/|\Aext/[^/]+/tests/})).to be_empty
  end
end
