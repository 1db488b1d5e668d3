# frozen_string_literal: true

module TaskerCore
  module V1
    # Liveness, readiness and status. The first two respond with one word and need no authentication.
    class HealthController < BaseController
      skip_before_action :verify_enabled
      skip_around_action :use_reading_role # the state of the primary is what operators alert on
      skip_before_action :authenticate, only: %i[live ready]

      def live = render_json({ status: "live" })

      def ready
        Operations::Health.new.verify!
        render_json({ status: "ready" })
      rescue FunctionsMissingError => e
        unready("functions", e)
      rescue DatabaseError, ActiveRecord::ActiveRecordError => e
        unready("database", e)
      end

      def summary
        query
        authorize(:show, :health)
        render_json(Operations::Health.new.to_h)
      end

      private

      # Only logs the error, as probes repeat every few seconds.
      def unready(what, error)
        Instrumentation.instrument("request_failed", error: error)
        problem = HTTP::ProblemDetails.new(DatabaseError.new).to_h.merge("detail" => what)
        render json: JSON.generate(problem), status: :service_unavailable, content_type: HTTP::ProblemDetails::MEDIA_TYPE
      end
    end
  end
end
