# frozen_string_literal: true

module TaskerCore
  module Postgres
    # @api private
    module Address
      # libpq's `options`: command-line arguments for the session's server process.
      class Options
        # @param text [String]
        def initialize(text)
          @text = text
        end

        # @return [Array<Array(String, String)>, nil] name and value of each setting; nil when it has other arguments
        def settings
          words = self.words
          settings = []
          while (word = words.shift)
            setting = word == "-c" ? words.shift : word[/\A(?:-c|--)(.+)\z/m, 1]
            name, value = setting&.split("=", 2)
            return unless value

            settings << [name.tr("-", "_"), value]
          end
          settings
        end

        private

        # Split at white space; a backslash escapes the next character.
        def words = @text.scan(/(?:\\.|[^\s\\])+/m).map { |word| word.gsub(/\\(.)/m, '\1') }
      end
    end
  end
end
