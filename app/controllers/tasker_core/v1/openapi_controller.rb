# frozen_string_literal: true

module TaskerCore
  module V1
    # The description of the API, with the address that it has here.
    class OpenapiController < BaseController
      DOCUMENT = YAML.load_file(Engine.root.join("config/openapi.yaml"), aliases: true).except("x-parts").freeze
      private_constant :DOCUMENT

      def show
        query
        authorize(:show, :openapi)
        info = DOCUMENT.fetch("info").merge("version" => VERSION)
        render_json(DOCUMENT.merge("info" => info, "servers" => [{ "url" => "#{request.script_name}/api/v1" }]))
      end
    end
  end
end
