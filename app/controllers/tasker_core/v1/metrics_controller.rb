# frozen_string_literal: true

module TaskerCore
  module V1
    # Metrics for Prometheus.
    class MetricsController < BaseController
      skip_before_action :verify_enabled
      skip_around_action :use_reading_role # the state of the primary is what operators alert on

      def show
        query
        authorize(:show, :metrics)
        render body: Operations::Metrics.new.to_s, content_type: Operations::Metrics::MEDIA_TYPE
      end
    end
  end
end
