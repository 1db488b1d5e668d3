# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker run`: one workflow file on one input, without a Rails application.
    class Run
      include Files

      def initialize(out:, err:)
        @out = out
        @err = err
        @files = []
        @input = "{}"
        @timeout = 3600.0
      end

      def run(arguments)
        path, *rest = parser.parse(arguments)
        raise UsageError, "run: name a workflow file: tasker run WORKFLOW.yaml" unless path
        raise UsageError, "run: #{rest.first}: unexpected argument" if rest.any?

        workflow, input = read(path)
        Development::Database.with_server(fsync: "off") do |url|
          connect(url)
          finished = execute(workflow, input)
          @out.puts JSON.generate(TaskReport.new(finished).to_h) if @json
          finished.state == "complete" ? 0 : 1
        end
      end

      private

      def parser
        OptionParser.new("Usage: tasker run WORKFLOW.yaml [options]") do |options|
          options.on("--require FILE", "Ruby file that defines the handlers") { @files << _1 }
          options.on("--input FILE", "JSON file with the task's input, - for standard input") { @input = read_input(_1) }
          options.on("--timeout SECONDS", Float, "how long the task may take (default: 3600)") { @timeout = _1 }
          options.on("--prepare", "create tables and functions in DATABASE_URL's database") { @prepare = true }
          options.on("--json", "print one JSON object instead of the steps") { @json = true }
        end
      end

      def read_input(path)
        path == "-" ? $stdin.read : File.read(path)
      rescue SystemCallError => e
        raise UsageError, "--input #{path}: #{e.message}"
      end

      # Everything that can be wrong is found before anything is written.
      def read(path)
        TaskerCore.configure(Configuration.in(Dir.pwd, environment: ENV.fetch("RAILS_ENV", "development")))
        @files.each { |file| load_ruby(file) }
        workflow = WorkflowFile.new(path)
        workflow.verify_handlers!
        input = JSON.parse(@input)
        raise UsageError, "--input: #{input.class} must be a JSON object" unless input.is_a?(Hash)

        workflow.compiled.validate_input(@input)
        [workflow, input]
      rescue JSON::ParserError => e
        raise UsageError, "--input: is no JSON: #{e.message}"
      end

      def connect(url)
        TaskerCore.logger = ActiveSupport::Logger.new(@err, level: :warn)
        return Development::Database.prepare(url) if @prepare || ENV["DATABASE_URL"].to_s.empty?

        ActiveRecord::Base.establish_connection(url)
        ApplicationRecord.on_connection { |connection| Functions.verify!(connection) }
      rescue FunctionsMissingError => e
        raise UsageError, "#{e.message}, or pass --prepare"
      end

      def execute(workflow, input)
        task = workflow.create!(**input.transform_keys(&:to_sym))
        worker = Worker.new(name: "tasker run").start
        view = StepTree.new(task, @out) unless @json
        task.wait(timeout: @timeout) { view&.draw }
        view&.draw
        task
      ensure
        worker&.stop
      end
    end
  end
end
