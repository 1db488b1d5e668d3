# frozen_string_literal: true

module TaskerCore
  module HTTP
    # The OpenAPI description of the API: `config/openapi.yaml`, with a path for each of {Operations::Action}.
    #
    # @api private
    module ApiDescription
      FILE = File.expand_path("../../../config/openapi.yaml", __dir__)
      PATHS = { task: "/tasks/{task}", step: "/tasks/{task}/steps/{step}" }.freeze
      private_constant :FILE, :PATHS

      module_function

      # @return [Hash{String => Object}]
      def to_h
        document = YAML.load_file(FILE, aliases: true)
        parts = document.delete("x-parts")
        actions = Operations::Action::ALL.to_h { |action| path(action, parts) }
        document.merge("paths" => document["paths"].merge(actions))
      end

      def path(action, parts)
        ["#{PATHS.fetch(action.subject)}/#{action.name}",
         { "parameters" => parts.fetch("#{action.subject}_parameters"), "post" => operation(action, parts) }]
      end

      def operation(action, parts)
        { "operationId" => "#{action.name}_#{action.subject}".camelize(:lower),
          "tags" => [action.resource.to_s],
          "summary" => action.effect,
          "requestBody" => parts.fetch(action.result? ? "reason_and_result" : "reason"),
          "responses" => parts.fetch("changes_#{action.subject}") }
      end
      private_class_method :path, :operation
    end
  end
end
