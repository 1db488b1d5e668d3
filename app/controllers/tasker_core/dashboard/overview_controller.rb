# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # The first page: the status of the installation.
    class OverviewController < BaseController
      def show
        authorize(:show)
        @overview = Overview.new
        refresh_page
      end
    end
  end
end
