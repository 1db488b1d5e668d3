# frozen_string_literal: true

module TaskerCore
  module Workflows
    # Loads the application's directories of workflows, handlers and subscribers. A directory that a generator has
    # created since the application booted becomes a root of the autoloader first.
    #
    # @api private
    module DirectoryLoader
      module_function

      # @param directories [Array<Pathname>] existing ones
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
