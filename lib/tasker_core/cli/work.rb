# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker work`: worker processes under a supervisor, in the Rails application of the current directory.
    class Work
      include Application

      def initialize(out:, err:)
        @out = out
        @err = err
        @overrides = {}
      end

      def run(arguments)
        rest = parser.parse(arguments)
        raise UsageError, "work: #{rest.first}: unexpected argument" if rest.any?

        load_application
        configuration = TaskerCore.config.with("execution" => @overrides)
        configuration.to_h
        verify_database
        ActiveRecord::Base.connection_handler.clear_all_connections!(:all)
        Supervisor.new(configuration: configuration, out: @err).run
      end

      private

      def parser
        OptionParser.new("Usage: tasker work [options]") do |options|
          options.on("--queues A,B", Array, "queues to serve (default: execution.queues)") { @overrides["queues"] = _1 }
          options.on("--threads N", Integer, "handlers at once in a process") { @overrides["threads"] = _1 }
          options.on("--processes N", Integer, "worker processes") { @overrides["processes"] = _1 }
          application_option(options)
        end
      end
    end
  end
end
