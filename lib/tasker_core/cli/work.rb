# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker work`: runs worker processes under a supervisor, in the Rails application of the current directory.
    #
    # @api private
    class Work < Command
      include Application

      def self.outlasts_reader? = true

      private

      def perform
        configuration = TaskerCore.config.with("execution" => overrides)
        configuration.to_h
        Dispatch.verify!(configuration)
        ActiveRecord::Base.connection_handler.clear_all_connections!(:all)
        Worker::Supervisor.new(configuration: configuration, out: @err, parent: @parent).run
      end

      # It prints no result, so it has no --json.
      def options(parser)
        parser.on("--queues A,B", Array, "queues to serve (default: execution.queues)") { overrides["queues"] = _1 }
        parser.on("--threads N", Integer, "handlers that each process runs concurrently") { overrides["threads"] = _1 }
        parser.on("--processes N", Integer, "number of worker processes") { overrides["processes"] = _1 }
        parser.on("--parent PID", Integer, "stop when this process, which started it, has ended") { @parent = _1 }
        application_option(parser)
      end

      def overrides = @overrides ||= {}
    end
  end
end
