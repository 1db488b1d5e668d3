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
        place = e.backtrace_locations&.first if e.is_a?(NameError) # the others name it in their message
        at = " (#{Support::HostApplication.relative(place.path)}:#{place.lineno})" if place
        raise UsageError, "--require #{path}: #{e.class}: #{e.message.lines.first.strip}#{at}"
      end
    end
  end
end
