# frozen_string_literal: true

module TaskerCore
  module Workflows
    # A workflow in a YAML file. Tasks are created as with a {Workflow} class, see {Creatable}.
    class YamlFile
      include Creatable

      # @return [String]
      attr_reader :path

      # @return [Hash] the file's content
      attr_reader :definition

      # @param path [String, Pathname]
      # @raise [WorkflowError] when the file cannot be read, or is not YAML
      def initialize(path)
        @path = Support::Utf8.text(path.to_s)
        @definition = YamlReader.new(text, @path).value
      end

      # @return [String]
      def workflow_name = compiled.name

      # @return [String]
      def namespace = compiled.namespace

      # @return [String]
      def version = compiled.version

      # @return [Native::CompiledWorkflow]
      # @raise [WorkflowError] with the file and every problem of the definition
      def compiled
        @compiled ||= JobValidator.compile(@definition).tap { |compiled| verify_callable(compiled) }
      rescue WorkflowError => e
        raise e.class.new("#{@path}: #{e.message}", facts: e.facts)
      end

      # @param handlers [Worker::HandlerRegistry]
      # @raise [WorkflowError] when a handler is not defined in this process
      def verify_handlers!(handlers = Worker::HandlerRegistry.new)
        step, handler = handlers.missing(compiled).first
        return unless step

        raise WorkflowError.new("#{@path}: step #{step}: handler #{handler.inspect} is not defined: require the file " \
                                "that defines `class #{handler} < TaskerCore::StepHandler`")
      end

      private

      def verify_callable(compiled)
        Worker::HandlerRegistry.named(compiled).each do |step, handler|
          problem = HandlerValidator.problem(handler)
          raise WorkflowError.new("step #{step} has no handler: #{problem}") if problem
        end
      end

      def text
        Support::Utf8.read(@path)
      rescue SystemCallError, ArgumentError => e # a path with a null character
        raise WorkflowError.new("#{@path.inspect} cannot be read: #{e.message}")
      end
    end
  end
end
