# frozen_string_literal: true

module TaskerCore
  # The declared workflows of this process. Classes are kept by their name, so that a code reload leaves no old ones.
  class Workflows
    include Enumerable

    def initialize
      @classes = Set.new
      @files = {}
    end

    # @api private called when a workflow class is declared
    def declare(class_name)
      @classes << class_name
    end

    # @param path [String, Pathname] a YAML file
    # @return [WorkflowFile]
    def load_file(path)
      file = WorkflowFile.new(path)
      @files[[file.namespace, file.workflow_name]] = file
    end

    # @yieldparam workflow [Class<Workflow>, WorkflowFile]
    def each(&block)
      return enum_for unless block

      @classes.filter_map(&:safe_constantize).each(&block)
      @files.each_value(&block)
    end

    # @raise [UnknownWorkflowError]
    def fetch(name, namespace: "default")
      name.to_s.camelize.safe_constantize # which loads a class that nothing has named so far
      wanted = [namespace.to_s, name.to_s]
      find { |workflow| [workflow.namespace, workflow.workflow_name] == wanted } || raise(unknown(*wanted))
    end

    private

    def unknown(namespace, name)
      known = map { |workflow| "#{workflow.namespace}.#{workflow.workflow_name}" }
      nearest = DidYouMean::SpellChecker.new(dictionary: known).correct("#{namespace}.#{name}").first
      remedy = nearest ? "did you mean #{nearest}?" : "declared are #{known.sort.join(', ').presence || 'none'}"
      UnknownWorkflowError.new("there is no workflow #{namespace}.#{name}: #{remedy}")
    end
  end
end
