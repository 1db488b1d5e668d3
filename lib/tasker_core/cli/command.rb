# frozen_string_literal: true

module TaskerCore
  class CLI
    # The base class of the commands: it reads arguments and options, and prints text or one JSON object. A command
    # declares its arguments in ARGUMENTS, its options in {#options}, and implements {#perform}.
    #
    # @api private
    class Command
      # Positional arguments in their order, optional ones in brackets.
      ARGUMENTS = [].freeze

      # @return [Boolean] whether it continues when the reader of its output has gone; a command that only prints ends
      #   then
      def self.outlasts_reader? = false

      # @return [String] the name, as typed
      def self.word = name.demodulize.downcase

      # @return [Array<String>] {ARGUMENTS}, or those of a command that has none of its own
      def self.arguments = self::ARGUMENTS

      # @return [String] the command with its arguments
      def self.usage = ["tasker", word, *arguments, "[options]"].join(" ")

      def initialize(out:, err:)
        @out = out
        @err = err
      end

      # @param arguments [Array<String>]
      # @return [Integer] exit status
      # @raise [UsageError, OptionParser::ParseError]
      def run(arguments)
        Support::SafeOutput.tolerate(@out, @err) if self.class.outlasts_reader?
        values = parser.parse(arguments)
        return help if @help

        verify(values)
        prepare
        perform(*values)
      end

      private

      # @return [Integer] exit status
      def perform(*) = raise(NotImplementedError, "#{self.class} must define perform")

      # Loads what {#perform} needs.
      def prepare; end

      def parser
        @parser ||= OptionParser.new("Usage: #{self.class.usage}") do |parser|
          options(parser)
          parser.on("-h", "--help", "print this help") { @help = true }
        end
      end

      def options(parser)
        parser.on("--json", "print one JSON object") { @json = true }
      end

      def help
        summary, = CLI.commands.fetch(word)
        @out.puts "#{word}: #{summary}", "", parser.help
        0
      end

      def verify(values)
        names = self.class.arguments
        missing = names[values.size]
        raise UsageError, "#{word}: #{missing} is missing: #{self.class.usage}" if missing && !missing.start_with?("[")
        raise UsageError, "#{word}: #{values[names.size]}: unexpected argument" if values.size > names.size
      end

      def word = self.class.word

      def terminal = @terminal ||= Terminal.new(@out)

      def print_json(object) = @out.puts(visible_json(object))

      # Prints one JSON object. The members of one field are printed one by one, so that they need not be in memory
      # together.
      # @param brackets [String] "[]" or "{}"
      # @param members [Enumerable<String>] JSON texts
      def print_json_with(object, field, brackets, members)
        opening, closing = brackets.chars
        @out.print visible_json(object).chop, ",#{JSON.generate(field)}:#{opening}"
        members.each_with_index { |text, index| @out.print(("," if index.positive?), Support::VisibleText.line(text)) }
        @out.puts "#{closing}}"
      end

      # @return [String] JSON in one line, with invisible characters escaped
      def visible_json(object) = Support::VisibleText.line(JSON.generate(object, max_nesting: 0))

      # @param option [String] the option that takes the text
      # @return [Hash]
      # @raise [UsageError] if the text is not a JSON object
      def object(option, text)
        value = JSON.parse(text, max_nesting: false)
        raise UsageError, "#{option}: #{value.class} must be a JSON object" unless value.is_a?(Hash)

        value
      rescue JSON::ParserError => e
        raise UsageError, "#{option}: is not JSON: #{e.message}"
      end

      def counted(count, noun) = "#{count} #{noun.pluralize(count)}"
    end
  end
end
