# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker work`: worker processes under a supervisor, in the Rails application of the current directory.
    #
    # @api private
    class Work < Command
      include Application

      def self.outlasts_reader? = true

      private

      def perform
        configuration = TaskerCore.config.with("execution" => overrides)
        configuration.to_h
        ActiveRecord::Base.connection_handler.clear_all_connections!(:all)
        Worker::Supervisor.new(configuration: configuration, out: @err).run
      end

      # It answers nothing, as JSON or otherwise: it goes on.
      def options(parser)
        parser.on("--queues A,B", Array, "queues to serve (default: execution.queues)") { overrides["queues"] = _1 }
        parser.on("--threads N", Integer, "handlers at once in a process") { overrides["threads"] = _1 }
        parser.on("--processes N", Integer, "worker processes") { overrides["processes"] = _1 }
        application_option(parser)
      end

      def overrides = @overrides ||= {}
    end
  end
end
