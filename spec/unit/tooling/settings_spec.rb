# frozen_string_literal: true

require_relative "../../../bin/support/mutations"

# spec/settings.yaml names for each setting the test that fails when the setting is held at its default.
RSpec.describe "Settings" do
  let(:table) { YAML.safe_load_file("#{root}/spec/settings.yaml") }

  it "each have a test of their effect" do
    paths = TaskerCore.config.describe[:settings].map { |setting| setting[:path].sub(/\Asystems\.[^.]+/, "systems.*") }
    expect(table.keys)
      .to match_array(paths.uniq), "spec/settings.yaml must name every setting of config/tasker-core.yaml, and no other"
  end

  it "name existing tests" do
    expect(Mutations.settings(root).size).to eq table.size
  end
end
