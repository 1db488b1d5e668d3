# frozen_string_literal: true

require_relative "../../../bin/support/mutations"

# Every setting acts: spec/settings.yaml names for each the test that fails when it is held at its default.
RSpec.describe "Settings" do
  let(:table) { YAML.safe_load_file("#{root}/spec/settings.yaml") }

  it "each have a test of what they do" do
    paths = TaskerCore.config.describe[:settings].map { |setting| setting[:path].sub(/\Asystems\.[^.]+/, "systems.*") }.uniq
    expect(table.keys).to match_array(paths), "spec/settings.yaml must name every setting of config/tasker-core.yaml, and no other"
  end

  it "name tests that exist" do
    expect(Mutations.settings(root).size).to eq table.size
  end
end
