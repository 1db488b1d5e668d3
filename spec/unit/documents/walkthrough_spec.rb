# frozen_string_literal: true

RSpec.describe "docs/walkthrough.md" do
  let(:document) { File.read("#{root}/docs/walkthrough.md") }
  let(:files) { document[/^\| stage .*?\n\n/m].scan(%r{\]\(\.\./([^)]+)\)}).flatten.uniq }
  let(:figures) do
    document.scan(/(\d+) files with about ([\d,]+) lines/).map { |pair| pair.map { |text| text.delete(",").to_i } }
  end

  def size(paths) = [paths.size, be_within(100).of(paths.sum { |path| File.foreach("#{root}/#{path}").count })]

  it "states how many files and lines its table has" do
    expect(figures).to match [size(files), size(files.grep(/\.(sql|rb)\z/))]
  end
end
