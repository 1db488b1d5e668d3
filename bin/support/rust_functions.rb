# frozen_string_literal: true

# The functions of a Rust file and their lengths, by the indentation that rustfmt gives them.
class RustFunctions
  # Lines, from `fn` to the closing brace.
  LIMIT = 60
  START = /^(?<indent> *)(?:(?:pub(?:\([^)]*\))?|default|const|async|unsafe|extern "\w+") )*fn (?<name>\w+)/
  # Comments and characters are matched so that a quote in them does not begin a string.
  TEXT = %r{//[^\n]*|'(?:\\[^\n]*?|[^'\\])'|r(?<hashes>#*)".*?"\k<hashes>|"(?:\\.|[^"\\])*"}m
  private_constant :START, :TEXT

  # @param path [String]
  def initialize(path)
    @path = path
    code = File.read(path, encoding: "UTF-8").gsub(TEXT) { |text| "\n" * text.count("\n") }
    @lines = code.lines(chomp: true).map(&:rstrip)
  end

  # @return [Array<String>] each function that is longer than {LIMIT}
  def too_long
    @lines.each_with_index.filter_map do |line, index|
      start = START.match(line)
      length = start && length(index, start[:indent])
      "#{@path}:#{index + 1}: #{start[:name]} has #{length} lines" if length && length > LIMIT
    end
  end

  private

  # @return [Integer, nil] nil for a declaration without a body
  def length(first, indent)
    signature_end = (first...@lines.size).find { |index| @lines[index].match?(/[{};]\z/) }
    return if signature_end.nil? || @lines[signature_end].end_with?(";")
    return signature_end - first + 1 if @lines[signature_end].end_with?("}")

    last = (signature_end...@lines.size).find { |index| @lines[index] == "#{indent}}" }
    last && (last - first + 1)
  end
end
