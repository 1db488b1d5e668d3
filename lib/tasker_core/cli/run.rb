# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker run`: runs one workflow file on one input, without a Rails application.
    #
    # @api private
    class Run < Command
      include Files

      ARGUMENTS = %w[WORKFLOW.yaml].freeze

      def self.outlasts_reader? = true

      def initialize(**)
        super
        @files = []
        @input = "{}"
        @timeout = 3600.0
      end

      private

      def perform(path)
        workflow, input = read(path)
        Development::Database.with_server(fsync: "off") do |url|
          connect(url)
          finished = execute(workflow, input)
          report(Operations::TaskReport.new(finished)) if @json
          finished.state == "complete" ? 0 : 1
        end
      end

      def options(parser)
        parser.on("--require FILE", "Ruby file that defines the handlers") { @files << _1 }
        parser.on("--input FILE", "JSON file with the task's input; - for standard input") { @input = read_input(_1) }
        parser.on("--timeout SECONDS", Float, "time limit of the task (default: 3600)") { @timeout = _1 }
        parser.on("--prepare", "create the tables and functions in the database of DATABASE_URL") { @prepare = true }
        super
      end

      def read_input(path)
        text = path == "-" ? Support::Utf8.read_all($stdin) : Support::Utf8.read(path)
        fault = Support::Utf8.fault(text)
        raise UsageError, "--input #{path}: #{fault}" if fault

        text
      rescue SystemCallError => e
        raise UsageError, "--input #{path}: #{e.message}"
      end

      # Validates all input before anything is written.
      def read(path)
        TaskerCore.configure(Configuration.in(Dir.pwd, environment: ENV.fetch("RAILS_ENV", "development")))
        @files.each { |file| load_ruby(file) }
        workflow = TaskerCore::Workflows::YamlFile.new(path)
        workflow.verify_handlers!
        input = object("--input", @input)
        workflow.compiled.validate_input(@input)
        [workflow, input]
      end

      def connect(url)
        TaskerCore.logger = ActiveSupport::Logger.new(@err, level: :warn)
        return Development::Database.prepare(url) if @prepare || ENV["DATABASE_URL"].to_s.empty?

        ActiveRecord::Base.establish_connection(url)
        ApplicationRecord.on_connection { |connection| Postgres::Functions.verify!(connection) }
      rescue FunctionsMissingError => e
        raise UsageError, "#{e.message}, or pass --prepare"
      end

      def report(report) = print_json_with(report.summary, :results, "{}", report.results)

      def execute(workflow, input)
        task = workflow.create!(**input.transform_keys(&:to_sym))
        worker = Worker.new(name: "tasker run").start
        view = Terminal::StepTree.new(task, @out) unless @json
        task.wait(timeout: @timeout) { view&.draw }
        view&.draw
        task
      ensure
        worker&.stop
      end
    end
  end
end
