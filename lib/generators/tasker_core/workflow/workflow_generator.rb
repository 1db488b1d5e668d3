# frozen_string_literal: true

require "rails/generators"
require "generators/tasker_core/generator"

module TaskerCore
  module Generators
    # `rails g tasker_core:workflow Fulfillment validate reserve:validate charge:validate ship:reserve,charge`: writes a
    # workflow class, or with `--yaml` a YAML file and a handler for each step; and its test.
    #
    # @api private
    class WorkflowGenerator < ::Rails::Generators::NamedBase
      include Generator

      # A step of the workflow.
      Step = Struct.new(:name, :parents, :handler, keyword_init: true)
      private_constant :Step

      source_root File.expand_path("templates", __dir__)

      desc "Writes a workflow and its test. Each step names its parents: validate reserve:validate charge:validate " \
           "ship:reserve,charge"

      argument :steps, type: :array, banner: "step step:parent,parent"
      class_option :namespace, type: :string, desc: "Namespace of the workflow: letters, digits and underscores"
      class_option :yaml, type: :boolean, default: false, desc: "Write a YAML file, and a handler class for each step"

      # @raise [Thor::Error] when the steps are not a valid workflow
      def verify_workflow
        Bridge.compile(definition)
        verify_methods unless options[:yaml]
      rescue WorkflowError => e
        raise Thor::Error, e.message
      end

      def verify_names
        class_collisions(*(options[:yaml] ? graph.map(&:handler) : class_name))
      end

      def create_workflow
        if options[:yaml]
          template "workflow.yaml.tt", yaml_path
          graph.each { |step| create_handler(step) }
        else
          template "workflow.rb.tt", File.join("app/workflows", class_path, "#{file_name}.rb")
        end
      end

      def create_test
        generate_test File.join("workflows", class_path, file_name)
      end

      private

      def create_handler(step)
        template "handler.rb.tt", "app/handlers/#{step.handler.underscore}.rb", context: binding
      end

      # One directory for all namespaces.
      def yaml_path = "config/tasker/workflows/#{[*class_path, file_name].join('_')}.yaml"

      def definition
        { name: file_name, namespace: options[:namespace],
          steps: graph.map { |step| { name: step.name, depends_on: step.parents, handler: step.handler } } }.compact
      end

      def graph
        @graph ||= steps.map do |text|
          step, parents = text.split(":", 2)
          handler = options[:yaml] ? "#{class_name}::#{step.camelize}" : "#{class_name}##{step}"
          Step.new(name: step, parents: parents.to_s.split(","), handler: handler)
        end
      end

      # A step's method must not override a method of every object.
      def verify_methods
        taken = graph.find { |step| Workflow.method_defined?(step.name) || step.name == "initialize" }
        return unless taken

        raise Thor::Error, "step #{taken.name}: every object has a method of this name: rename the step, or use --yaml"
      end

      # @return [String] the Ruby code of `depends_on`
      def parents_in_ruby(step)
        step.parents.one? ? ":#{step.parents.first}" : "%i[#{step.parents.join(' ')}]"
      end

      # Quotes words such as on and no, which YAML reads as booleans.
      def in_yaml(text) = YAML.dump(text).delete_prefix("--- ").strip

      # @return [String] the Ruby code that finds the YAML file's workflow
      def workflow_in_ruby
        namespace = %(, namespace: "#{options[:namespace]}") if options[:namespace]
        %(TaskerCore.workflow("#{file_name}"#{namespace}))
      end
    end
  end
end
