# frozen_string_literal: true

require "open3"

# Finds words that earlier versions of this project used in meanings of their own, in all tracked text files.
class PlainEnglish
  # Patterns, and what to write instead. A space also matches a line break, with the mark of a comment on the next line.
  WORDS = {
    "tells?|telling|untold" => "publish, report, notify, return, log",
    "answers?|answered|answering" => "return, respond",
    "(?:the|next|first|each|every|its) looks?|looked at|looking at" => "poll, scan, query",
    "somebody|nobody|anybody|whoever" => "another process, an operator, a caller, the client",
    "(?:come|comes|came) to its end|what (?:it|they|steps?|\\w+ steps?) (?:come|comes|came) to" => "outcome, end",
    "deals? with|dealt with|put right|puts right|mend|mends|mended|mending" => "resolve, repair",
    "by hand" => "by an operator",
    "goes on|going on|went on|is over|in vain" => "continue, has ended, without effect",
    "what there is|what is there" => "the existing ones, all",
    "so and so many|as many as" => "up to n, at most n",
    "seldom|seldomer" => "rarely, less often",
    "sa(?:id|ys) so" => "is declared, requires it",
    "held against" => "compared with, checked against",
    "gives? back|given back|gave back" => "release, return"
  }.freeze
  # In identifiers too: told_as, v_told, ToldEvents.
  TOLD = /(?<![a-zA-Z])told(?![a-z])|(?<![A-Z])Told(?![a-z])/
  # Texts of others, data, and this list with its test.
  SKIPPED = %r{\A(?:LICENSE|.*\.lock|.*\.csv|bin/support/plain_english\.rb|spec/unit/tooling/plain_english_spec\.rb)\z}
  # File, word and reason.
  EXCEPTIONS = [].freeze

  GAP = '\s+(?:(?:#|//[/!]?|--|\*)\s+)?'
  PATTERNS = WORDS.to_h { |words, remedy| [/(?<![\w-])(?:#{words.gsub(' ', GAP)})(?![\w-])/i, remedy] }
                  .merge(TOLD => WORDS.values.first).freeze
  ROOT = File.expand_path("../../..", File.realpath(__FILE__))
  private_constant :GAP, :PATTERNS, :ROOT

  # @param root [String] of a checkout
  def initialize(root = ROOT)
    @root = root
  end

  # @return [Array<String>] each place with such a word, and what to write instead
  def violations = tracked.grep_v(SKIPPED).flat_map { |path| of_file(path) }

  private

  def tracked
    names, status = Open3.capture2("git", "ls-files", "-z", chdir: @root)
    raise "git ls-files failed in #{@root}" unless status.success?

    names.split("\0").select { |path| File.file?(File.join(@root, path)) }
  end

  def of_file(path)
    text = File.read(File.join(@root, path), encoding: "UTF-8")
    return [] if text.include?("\0") || !text.valid_encoding?

    PATTERNS.flat_map { |pattern, remedy| places(path, text, pattern, remedy) }
  end

  def places(path, text, pattern, remedy)
    found = text.to_enum(:scan, pattern).map { Regexp.last_match }
    found.reject { |match| excepted?(path, match[0]) }.map do |match|
      line = match.pre_match.count("\n") + 1
      "#{path}:#{line}: \"#{match[0].gsub(/\s+/, ' ')}\": write #{remedy}"
    end
  end

  def excepted?(path, word) = EXCEPTIONS.any? { |file, exception, _| file == path && exception.casecmp?(word) }
end
