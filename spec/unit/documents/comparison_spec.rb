# frozen_string_literal: true

RSpec.describe "docs/comparison.md" do
  let(:document) { File.read("#{root}/docs/comparison.md") }
  let(:projects) { document.scan(/^### (.+?)\n(.*?)(?=^##|\z)/m).to_h }

  it "cites a source for each statement about another project" do
    statements = projects.values.flat_map { |text| text.split(/^- /).drop(1) }
    expect(statements.size).to be > 15
    expect(statements.grep_v(%r{\]\(https://[^)\s]+\)})).to eq []
  end

  it "makes statements only in its lists" do
    expect(projects.transform_values(&:strip).reject { |_, text| text.start_with?("- ") }).to eq({})
  end

  it "recommends only projects that it describes" do
    table = document[/^## Which alternative to choose\n(.*?)^## /m, 1]
    named = table.scan(/^\| [^|]+ \| ([^|]+) \|/).flatten.drop(1).join(",").scan(/[A-Z]\w+(?: [A-Z]\w+)*|pgbus/)
    expect(named.uniq.map { |name| name.delete_suffix(" Pro") }.uniq - projects.keys).to eq []
  end
end
