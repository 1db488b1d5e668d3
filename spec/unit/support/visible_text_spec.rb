# frozen_string_literal: true

RSpec.describe TaskerCore::Support::VisibleText do
  invisible = {
    "\e" => "\\u001b", "\u009b" => "\\u009b", "\u007f" => "\\u007f", "\0" => "\\u0000", "\t" => "\\t", "\r" => "\\r",
    "\u0085" => "\\u0085",
    "\u202a" => "\\u202a", "\u202e" => "\\u202e", "\u2066" => "\\u2066", "\u2069" => "\\u2069", "\u200b" => "\\u200b",
    "\u200f" => "\\u200f",
    "\u2028" => "\\u2028", "\u2029" => "\\u2029", "\u2060" => "\\u2060", "\ufeff" => "\\ufeff", "\u061c" => "\\u061c",
    "\u00ad" => "\\u00ad",
    "\u180e" => "\\u180e", "\u{e0041}" => "\\udb40\\udc41", "\ufff9" => "\\ufff9"
  }

  invisible.each do |character, written|
    it "escapes U+#{character.ord.to_s(16)} as #{written}" do
      expect(described_class.line("a#{character}b")).to eq "a#{written}b"
      expect(described_class.lines("a#{character}b\nc")).to eq "a#{written}b\nc"
    end
  end

  it "keeps a text in one line, or keeps its lines" do
    expect(described_class.line("one\ntwo")).to eq "one\\ntwo"
    expect(described_class.lines("one\ntwo")).to eq "one\ntwo"
  end

  it "leaves readable text unchanged" do
    text = "Änderung, 失敗, שלום, é, 👍, a b — “c” \\n"
    expect(described_class.line(text)).to equal text
  end

  it "makes valid UTF-8 of texts in any encoding" do
    expect(described_class.line("a\xff\e".b)).to eq "a\u{fffd}\\u001b"
    expect(described_class.line("\xe4".dup.force_encoding(Encoding::ISO_8859_1))).to eq "ä"
    expect(described_class.line("a\xff")).to eq "a\u{fffd}"
    expect(described_class.line(nil)).to eq ""
  end

  it "escapes JSON without changing its value" do
    value = { "text" => "a\u202eb\u{e0041}\u009b\n\u007f", "b\u200b" => ["\ufeff"] }
    json = described_class.line(JSON.generate(value))
    expect(json).to match(/\A[ -~]+\z/)
    expect(JSON.parse(json)).to eq value
  end

  it "leaves white space and form fields of a page unchanged" do
    html = "<p>a\u202e</p>\r\n\t<input value=\"b\u202e\"><textarea>c\u202e\n</textarea> d\u200b"
    expect(described_class.page(html, except: %r{<input[^>]*>|<textarea[^>]*>[^<]*</textarea>}))
      .to eq "<p>a\\u202e</p>\r\n\t<input value=\"b\u202e\"><textarea>c\u202e\n</textarea> d\\u200b"
  end
end
