# frozen_string_literal: true

module TaskerCore
  module Support
    # Text from outside: files, standard input, arguments, environment variables. All of it is UTF-8, whatever the locale says
    # (under LC_ALL=C, as in many containers and under cron, Ruby would take it for ASCII); a byte-order mark is left out.
    #
    # @api private
    module Utf8
      MARK = "\uFEFF"
      private_constant :MARK

      module_function

      # Makes what this process reads UTF-8 where the locale says ASCII, as Rails does: files of handlers, names of directories.
      def assume
        return unless Encoding.default_external == Encoding::US_ASCII

        silence_warnings { Encoding.default_external = Encoding::UTF_8 }
      end

      # @param path [String, Pathname]
      # @return [String] what the file has, which may be no valid UTF-8: see {fault}
      # @raise [SystemCallError]
      def read(path) = text(File.binread(path)).delete_prefix(MARK)

      # @param stream [IO]
      # @return [String] see {read}
      def read_all(stream) = text(stream.read.to_s).delete_prefix(MARK)

      # @param bytes [String] in whatever encoding Ruby takes them for
      # @return [String] the same bytes as UTF-8
      def text(bytes) = String.new(bytes).force_encoding(Encoding::UTF_8)

      # @param text [String] as {read} or {text} returns it
      # @return [String, nil] where the first byte is that is no UTF-8, and what to do; nil when the text is valid
      def fault(text)
        return if text.valid_encoding?

        before = text.each_char.take_while(&:valid_encoding?).join
        place = "line #{before.count("\n") + 1}, byte #{before.bytesize + 1}"
        format("%<place>s: %<byte>#04x is no UTF-8: save it as UTF-8", place: place, byte: text.getbyte(before.bytesize))
      end
    end
  end
end
