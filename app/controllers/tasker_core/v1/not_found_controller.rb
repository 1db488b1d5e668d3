# frozen_string_literal: true

module TaskerCore
  module V1
    # Responds to paths without a route.
    class NotFoundController < BaseController
      skip_before_action :read_body

      def show
        raise UnknownResourceError.new("no route matches #{request.request_method} of that path: " \
                                       "GET #{v1_openapi_path} lists all routes")
      end
    end
  end
end
