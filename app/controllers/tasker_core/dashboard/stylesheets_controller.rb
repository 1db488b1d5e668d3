# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # Serves the style sheet. It contains no data, so it needs no authentication.
    class StylesheetsController < BaseController
      skip_before_action :authenticate
      skip_forgery_protection # a style sheet, not a script

      def show
        raise UnknownResourceError.new("unknown style sheet") unless params[:digest] == Stylesheet.digest

        response.set_header("Cache-Control", "public, max-age=31536000, immutable")
        render body: Stylesheet.text, content_type: "text/css"
      end
    end
  end
end
