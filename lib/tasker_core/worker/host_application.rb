# frozen_string_literal: true

module TaskerCore
  class Worker
    # The Rails application around a worker, or its absence: what has to happen around each attempt.
    #
    # @api private
    class HostApplication
      # @return [HostApplication]
      def self.current = new(defined?(Rails.application) ? Rails.application : nil)

      # @param application [Rails::Application, nil]
      def initialize(application)
        @reloading = application ? application.config.reloading_enabled? : false
        @around = application && (@reloading ? application.reloader : application.executor)
      end

      # Whether classes may be replaced while the process runs.
      def reloading? = @reloading

      # Runs the block as Rails runs a request: with its connections given back, its caches cleared, its code reloaded.
      def run(&block) = @around ? @around.wrap(&block) : block.call
    end
  end
end
