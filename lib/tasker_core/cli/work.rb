# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker work`: worker processes under a supervisor, in the Rails application of the current directory.
    class Work
      include Files

      ENVIRONMENT = "config/environment.rb"

      def initialize(out:, err:)
        @out = out
        @err = err
        @overrides = {}
        @files = []
      end

      def run(arguments)
        rest = parser.parse(arguments)
        raise UsageError, "work: #{rest.first}: unexpected argument" if rest.any?

        boot
        configuration = TaskerCore.config.with("execution" => @overrides)
        configuration.to_h
        ApplicationRecord.on_connection { |connection| Functions.ensure_current(connection) }
        ActiveRecord::Base.connection_handler.clear_all_connections!(:all)
        Supervisor.new(configuration: configuration, out: @err).run
      end

      private

      def parser
        OptionParser.new("Usage: tasker work [options]") do |options|
          options.on("--queues A,B", Array, "queues to serve (default: execution.queues)") { @overrides["queues"] = _1 }
          options.on("--threads N", Integer, "handlers at once in a process") { @overrides["threads"] = _1 }
          options.on("--processes N", Integer, "worker processes") { @overrides["processes"] = _1 }
          options.on("--require FILE", "Ruby file to load, instead of #{ENVIRONMENT}") { @files << _1 }
        end
      end

      def boot
        return @files.each { |path| load_ruby(path) } if @files.any?

        unless File.file?(ENVIRONMENT)
          raise UsageError, "there is no #{ENVIRONMENT} here: run it in a Rails application, or name a file with --require"
        end

        require File.expand_path(ENVIRONMENT)
      end
    end
  end
end
