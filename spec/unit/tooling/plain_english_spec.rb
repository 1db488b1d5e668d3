# frozen_string_literal: true

require_relative "../../../bin/support/plain_english"

RSpec.describe PlainEnglish do
  around do |example|
    Dir.mktmpdir do |directory|
      @directory = directory
      system("git", "init", "--quiet", directory, exception: true)
      example.run
    end
  end

  def violations(text, path: "lib/a.rb")
    File.join(@directory, path).then { |file| FileUtils.mkdir_p(File.dirname(file)) && File.write(file, text) }
    system("git", "add", "--all", chdir: @directory, exception: true)
    described_class.new(@directory).violations
  end

  it "names place, word and replacement" do
    expect(violations("# Fine.\n# A worker is told of it.\n"))
      .to eq ['lib/a.rb:2: "told": write publish, report, notify, return, log']
  end

  it "finds every word of its list" do
    words = ["tells", "answered", "Nobody", "mended", "seldomer", "by hand", "dealt with", "goes on", "in vain",
             "so and so many", "gives back", "what it came to", "as many as", "its next look", "looked at",
             "held against"]
    expect(words.select { |word| violations("# #{word}\n").empty? }).to eq []
  end

  it "finds phrases across lines of a comment" do
    expect(violations("  # It was dealt\n  # with.\n")).to match [/lib.a.rb:1: "dealt # with"/]
    expect(violations("/// by\n/// hand\n", path: "lib/a.rb")).to match [%r{"by /// hand"}]
  end

  it "finds one word in identifiers" do
    %w[told_as v_told ToldEvents].each { |name| expect(violations("#{name}\n").size).to eq 1 }
    expect(violations("untoldable stolid answers_by_id retold\n")).to eq []
  end

  it "skips binary files and texts of others" do
    expect(violations("told\0", path: "a.png") + violations("told", path: "LICENSE")).to eq []
  end

  it "has an exception only for a word that occurs" do
    described_class::EXCEPTIONS.each do |path, word, reason|
      expect(File.read(File.join(root, path))).to match(/#{Regexp.escape(word)}/i)
      expect(reason).to match(/\w+ \w+/)
    end
  end
end
