# frozen_string_literal: true

module TaskerCore
  module Support
    # Reads text from outside as UTF-8: files, standard input, arguments, environment variables. The locale is ignored:
    # with LC_ALL=C, as in many containers and in cron, Ruby would read ASCII. A byte-order mark is removed.
    #
    # @api private
    module Utf8
      MARK = "\uFEFF"
      private_constant :MARK

      module_function

      # Makes UTF-8 the process's default encoding where the locale says ASCII, as Rails does: for files of handlers and
      # names of directories.
      def assume
        return unless Encoding.default_external == Encoding::US_ASCII

        silence_warnings { Encoding.default_external = Encoding::UTF_8 }
      end

      # @param path [String, Pathname]
      # @return [String] the file's content, which may be invalid UTF-8: see {fault}
      # @raise [SystemCallError]
      def read(path) = text(File.binread(path)).delete_prefix(MARK)

      # @param stream [IO]
      # @return [String] see {read}
      def read_all(stream) = text(stream.read.to_s).delete_prefix(MARK)

      # @param bytes [String] in any encoding
      # @return [String] the same bytes, as UTF-8
      def text(bytes) = String.new(bytes).force_encoding(Encoding::UTF_8)

      # @param text [String] the result of {read} or {text}
      # @return [String, nil] the position of the first invalid byte, and a remedy; nil if the text is valid
      def fault(text)
        return if text.valid_encoding?

        before = text.each_char.take_while(&:valid_encoding?).join
        place = "line #{before.count("\n") + 1}, byte #{before.bytesize + 1}"
        byte = text.getbyte(before.bytesize)
        format("%<place>s: %<byte>#04x is not UTF-8: save it as UTF-8", place: place, byte: byte)
      end
    end
  end
end
