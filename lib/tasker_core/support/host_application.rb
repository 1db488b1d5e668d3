# frozen_string_literal: true

module TaskerCore
  module Support
    # The Rails application of this process, if it has one: wraps work in its executor, or in its reloader.
    #
    # @api private
    class HostApplication
      # @return [HostApplication]
      def self.current = new(defined?(Rails.application) ? Rails.application : nil)

      # @return [Boolean] whether Rails's environment is development or test
      def self.local? = (defined?(Rails.env) && Rails.env.local?) || false

      # @param path [String, nil]
      # @return [String, nil] the path, relative to the application's root if it is below it
      def self.relative(path)
        root = defined?(Rails.root) && Rails.root
        root ? path&.delete_prefix("#{root}/") : path
      end

      # @param application [Rails::Application, nil]
      def initialize(application)
        @reloading = application ? application.config.reloading_enabled? : false
        @around = application && (@reloading ? application.reloader : application.executor)
      end

      # @return [Boolean] whether classes may be replaced while the process runs
      def reloading? = @reloading

      # Runs the block as Rails runs a request: afterwards connections are returned and caches cleared; where code is
      # reloaded, changed code is loaded first.
      # @return [Object] what the block returns
      def run(&block) = @around ? @around.wrap(&block) : block.call
    end
  end
end
