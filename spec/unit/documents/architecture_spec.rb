# frozen_string_literal: true

RSpec.describe "docs/architecture.md" do
  let(:document) { File.read("#{root}/docs/architecture.md") }

  it "lists every rule of check_architecture" do
    source = File.read("#{root}/bin/support/check_architecture")
    rules = source[/RULES = \{(.*?)\}\.freeze/m].scan(/"([^"]+)" =>/).flatten
    expect(rules.size).to be > 8
    expect(document[/^## Rules\n(.*?)^## /m].scan(/^- (.*)$/).flatten).to eq rules
  end

  it "has a place for each of thirteen typical changes" do
    rows = document[/^## Where a change belongs\n(.*)/m].lines.grep(/^\| /).drop(1)
    expect(rows.size).to eq 13
    expect(rows).to all(include("]("))
  end
end
