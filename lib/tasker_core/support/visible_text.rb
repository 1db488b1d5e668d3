# frozen_string_literal: true

module TaskerCore
  module Support
    # What comes from outside (headers, messages of errors, names, reasons, tags) on its way to a log, a terminal or a page:
    # a character that is not seen where it stands, or that moves what stands around it, is written out as JSON writes it.
    # Otherwise a text could end a line and begin another, colour a terminal, or read differently than it is.
    #
    # Rust's lines follow the same rule (`ext/orchestrator/src/logs/format.rs`).
    #
    # @api private
    module VisibleText
      # Control characters of both ranges, the soft hyphen, marks without a width or that turn the direction of text, the
      # separators of lines and paragraphs, and tags.
      INVISIBLE = /[[:cntrl:]\u{ad 61c 180e feff}\u{200b}-\u{200f}\u{2028}-\u{202e}\u{2060}-\u{206f}]|
                [\u{fff9}-\u{fffb}\u{e0000}-\u{e007f}]/x
      INVISIBLE_BUT_LINES = /(?!\n)#{INVISIBLE}/
      # On a page, these are white space.
      INVISIBLE_ON_PAGES = /(?![\t\r\n])#{INVISIBLE}/
      SHORT = { "\n" => "\\n", "\r" => "\\r", "\t" => "\\t" }.freeze
      private_constant :INVISIBLE, :INVISIBLE_BUT_LINES, :INVISIBLE_ON_PAGES, :SHORT

      module_function

      # @param text [#to_s]
      # @return [String] valid UTF-8 in one line. Of a JSON text the value stays the same.
      def line(text) = escape_all(text, INVISIBLE)

      # @param text [#to_s]
      # @return [String] valid UTF-8, in which lines end where they did
      def lines(text) = escape_all(text, INVISIBLE_BUT_LINES)

      # @param html [String] a page, whose white space stays as it is
      # @param except [Regexp] what of it stays as it is, too
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
        SHORT.fetch(character) { character.encode(Encoding::UTF_16BE).unpack("n*").map { |unit| format("\\u%04x", unit) }.join }
      end
      private_class_method :escape_all, :utf8, :escape
    end
  end
end
