# frozen_string_literal: true

module TaskerCore
  module Support
    # Escapes invisible characters of text from outside (headers, error messages, names, reasons, tags) for logs,
    # terminals and pages, in the way of JSON. Otherwise a text could start a new line, colour a terminal, or change the
    # order in which it is read.
    #
    # Rust's log lines follow the same rule (`ext/orchestrator/src/logs/format.rs`).
    #
    # @api private
    module VisibleText
      # Control characters of both ranges, the soft hyphen, zero-width and directional marks, line and paragraph
      # separators, and tags.
      INVISIBLE = /[[:cntrl:]\u{ad 61c 180e feff}\u{200b}-\u{200f}\u{2028}-\u{202e}\u{2060}-\u{206f}]|
                [\u{fff9}-\u{fffb}\u{e0000}-\u{e007f}]/x
      INVISIBLE_BUT_LINES = /(?!\n)#{INVISIBLE}/
      # Without the white space of HTML.
      INVISIBLE_ON_PAGES = /(?![\t\r\n])#{INVISIBLE}/
      SHORT = { "\n" => "\\n", "\r" => "\\r", "\t" => "\\t" }.freeze
      private_constant :INVISIBLE, :INVISIBLE_BUT_LINES, :INVISIBLE_ON_PAGES, :SHORT

      module_function

      # @param text [#to_s]
      # @return [String] valid UTF-8 in one line; JSON text keeps its value
      def line(text) = escape_all(text, INVISIBLE)

      # @param text [#to_s]
      # @return [String] valid UTF-8 with the same line ends
      def lines(text) = escape_all(text, INVISIBLE_BUT_LINES)

      # @param html [String] a page, whose white space is kept
      # @param except [Regexp] parts of it that are kept, too
      # @return [String]
      def page(html, except:)
        return html unless html.match?(INVISIBLE_ON_PAGES)

        html.gsub(/(#{except})|#{INVISIBLE_ON_PAGES}/) { |found| Regexp.last_match(1) ? found : escape(found) }
      end

      def escape_all(text, invisible)
        text = utf8(text.to_s)
        text.match?(invisible) ? text.gsub(invisible) { |character| escape(character) } : text
      end

      def utf8(text)
        return text if text.encoding == Encoding::UTF_8 && text.valid_encoding?
        if [Encoding::UTF_8, Encoding::BINARY].include?(text.encoding)
          return String.new(text).force_encoding(Encoding::UTF_8).scrub
        end

        text.encode(Encoding::UTF_8, invalid: :replace, undef: :replace)
      end

      def escape(character)
        SHORT.fetch(character) do
          character.encode(Encoding::UTF_16BE).unpack("n*").map { |unit| format("\\u%04x", unit) }.join
        end
      end
      private_class_method :escape_all, :utf8, :escape
    end
  end
end
