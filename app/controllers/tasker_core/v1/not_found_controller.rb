# frozen_string_literal: true

module TaskerCore
  module V1
    # Whatever else is asked for.
    class NotFoundController < BaseController
      skip_before_action :read_body

      def show
        raise UnknownResourceError.new("there is no #{request.request_method} of that path: GET #{v1_openapi_path} lists all")
      end
    end
  end
end
