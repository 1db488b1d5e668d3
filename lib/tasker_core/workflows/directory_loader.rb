# frozen_string_literal: true

module TaskerCore
  module Workflows
    # Loads the directories in which an application has its workflows, handlers and subscribers. One that did not exist when the
    # application booted, as a generator makes it beside a running server, is no root of the autoloader yet: it becomes one.
    #
    # @api private
    module DirectoryLoader
      module_function

      # @param directories [Array<Pathname>] that exist
      # @param autoloader [Zeitwerk::Loader]
      def load(directories, autoloader)
        added = directories.map(&:to_s) - autoloader.dirs
        added.each { |directory| autoloader.push_dir(directory) }
        autoloader.reload if added.any? && autoloader.reloading_enabled?
        directories.each { |directory| autoloader.eager_load_dir(directory) }
      end
    end
  end
end
