# frozen_string_literal: true

module TaskerCore
  module V1
    # The description of the API, with its address in this application.
    class OpenapiController < BaseController
      def show
        query
        authorize(:show, :openapi)
        document = HTTP::ApiDescription.to_h
        info = document.fetch("info").merge("version" => VERSION)
        render_json(document.merge("info" => info, "servers" => [{ "url" => "#{request.script_name}/api/v1" }]))
      end
    end
  end
end
