# frozen_string_literal: true

module TaskerCore
  module Postgres
    # @api private
    module Address
      # libpq's `options`: what would stand on the command line of the session's server process.
      class Options
        # @param text [String]
        def initialize(text)
          @text = text
        end

        # @return [Array<Array(String, String)>, nil] name and value of each setting; nil when there is something else
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

        # Parted by white space; a backslash keeps the character that follows.
        def words = @text.scan(/(?:\\.|[^\s\\])+/m).map { |word| word.gsub(/\\(.)/m, '\1') }
      end
    end
  end
end
