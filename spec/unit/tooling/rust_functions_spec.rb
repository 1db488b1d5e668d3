# frozen_string_literal: true

require_relative "../../../bin/support/rust_functions"

# How `bin/support/check_architecture` measures the functions of a Rust file.
RSpec.describe RustFunctions do
  def too_long(text)
    Dir.mktmpdir do |directory|
      File.write("#{directory}/a.rs", text)
      described_class.new("#{directory}/a.rs").too_long.map { |place| place.delete_prefix("#{directory}/") }
    end
  end

  def function(head, lines, body: "work();") = [head, *["    #{body}"] * (lines - 2), "}"].join("\n")

  it "reports a function of more than 60 lines, with its place" do
    expect(too_long("use a::b;\n\n#{function('pub(crate) async fn long<T>(it: T) -> T {', 61)}\n"))
      .to eq ["a.rs:3: long has 61 lines"]
    expect(too_long(function("fn short() {", 60))).to eq []
  end

  it "measures methods, and functions in tests and macros" do
    method = function("fn long(&self) {", 61).gsub(/^/, "    ")
    ["impl A {\n#{method}\n}", "#[cfg(test)]\nmod tests {\n#{method}\n}", "proptest! {\n#{method}\n}"].each do |text|
      expect(too_long(text)).to include(end_with("long has 61 lines"))
    end
  end

  it "counts a signature of several lines" do
    expect(too_long(function("fn long(\n    first: u8,\n) -> u8 {", 59))).to eq ["a.rs:1: long has 61 lines"]
  end

  it "takes no brace in a string for the end, and no quote in a comment for a string" do
    ["r#\"\n\"\n}\n\"#", "\"\n}\n\"", "// one \" alone"].each do |body|
      text = function("fn long() {", 63).sub("work();", body)
      expect(too_long("#{text}\nconst TEXT: &str = \"\";\n")).to include(start_with("a.rs:1: long has"))
    end
  end

  it "does not take a declaration without a body for a function" do
    constants = "    const X: u8 = 0;\n" * 70
    expect(too_long("trait A {\n    fn one(&self);\n#{constants}    fn two(&self) {\n    }\n}\n")).to eq []
    expect(too_long("impl A {\n    fn one(&self) {}\n#{constants}    fn two(&self) {\n    }\n}\n")).to eq []
  end
end
