# frozen_string_literal: true

module TaskerCore
  module Workflows
    # The declared workflows of this process. Classes are kept by name, so that no old class is left after a code
    # reload.
    #
    # @api private
    class Registry
      include Enumerable

      # @param workflow [Class<Workflow>, YamlFile]
      # @return [Boolean] whether it is no workflow itself: a class without steps that others inherit from
      def self.base?(workflow)
        workflow.is_a?(Class) && workflow.definition[:steps].empty? && workflow.subclasses.any?
      end

      def initialize
        @classes = Set.new
        @files = {}
      end

      # @api private called when a workflow class is declared
      def declare(class_name)
        @classes << class_name
      end

      # @param path [String, Pathname] a YAML file; when it is loaded again, it replaces its former content
      # @return [YamlFile]
      # @raise [WorkflowError] when it cannot be compiled, or another file has a workflow of the same name
      def load_file(path)
        file = YamlFile.new(path)
        @files.delete_if { |_, other| other.path == file.path }
        key = [file.namespace, file.workflow_name]
        raise taken(key, @files[key], file) if @files.key?(key)

        @files[key] = file
      end

      # Loads the files of a directory; they replace those that were loaded from it before.
      # @param directory [String, Pathname]
      # @raise [WorkflowError] see {load_file}
      def load_directory(directory)
        @files.delete_if { |_, file| File.dirname(file.path) == directory.to_s }
        Dir[File.join(directory, "*.{yml,yaml}")].sort.each { |path| load_file(path) }
      end

      # Compiles all declared workflows: at boot, and after each reload.
      # @raise [WorkflowError] when one cannot be compiled, or two have the same name
      def verify!
        declared = reject { |workflow| workflow.is_a?(Class) && workflow.definition[:steps].empty? } # abstract classes
        declared.each { |workflow| report_undefined_handlers(workflow.compiled) }
        declared.group_by { |workflow| [workflow.namespace, workflow.workflow_name] }.each do |key, (first, second)|
          raise taken(key, first, second) if second
        end
      end

      # @yieldparam workflow [Class<Workflow>, YamlFile]
      def each(&block)
        return enum_for unless block

        @classes.filter_map(&:safe_constantize).each(&block)
        @files.each_value(&block)
      end

      # @param name [String, Symbol]
      # @param namespace [String]
      # @return [Class<Workflow>, YamlFile]
      # @raise [UnknownWorkflowError]
      def fetch(name, namespace: "default")
        name.to_s.camelize.safe_constantize # loads the class if it is not loaded yet
        key = [namespace.to_s, name.to_s]
        find { |workflow| [workflow.namespace, workflow.workflow_name] == key } || raise(unknown(*key))
      end

      private

      def report_undefined_handlers(compiled)
        Worker::HandlerRegistry.new.missing(compiled).each do |step, handler|
          known = StepHandler.descendants.filter_map(&:name)
          nearest = Support::Spelling.nearest(handler, known)
          Instrumentation.instrument("undefined_handler", workflow: compiled.name, step: step, handler: handler,
                                                          nearest: nearest)
        end
      end

      def taken(key, first, second)
        places = [first, second].map { |workflow| workflow.is_a?(Class) ? "the class #{workflow.name}" : workflow.path }
        WorkflowError.new("there are two workflows #{key.join('.')}: #{places.join(' and ')}: " \
                          "give one of them another name or namespace")
      end

      def unknown(namespace, name)
        known = map { |workflow| "#{workflow.namespace}.#{workflow.workflow_name}" }
        name = "#{namespace}.#{name}"
        UnknownWorkflowError.new("there is no workflow #{name}: " \
                                 "#{Support::Spelling.remedy(name, known.sort, list: 'the declared workflows are')}")
      end
    end
  end
end
