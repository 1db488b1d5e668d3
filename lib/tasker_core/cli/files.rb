# frozen_string_literal: true

module TaskerCore
  class CLI
    # Loads the Ruby files that options name.
    #
    # @api private
    module Files
      private

      # @param path [String] a Ruby file
      # @raise [UsageError] if it does not exist or fails to load
      def load_ruby(path)
        raise UsageError, "--require #{path}: no such file" unless File.file?(path)

        require File.expand_path(path, Support::Utf8.text(Dir.pwd))
      rescue LoadError, SyntaxError, NameError => e
        raise UsageError, "--require #{path}: #{e.class}: #{e.message.lines.first.strip}"
      end
    end
  end
end
