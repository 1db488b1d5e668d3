# frozen_string_literal: true

module TaskerCore
  module V1
    # Is it alive, is it ready, how does it stand? Who asks the first two is told one word, and need not be known.
    class HealthController < BaseController
      skip_before_action :verify_enabled
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

      # Asked every few seconds, it is told to the log alone.
      def unready(what, error)
        Instrumentation.instrument("request_failed", error: error)
        problem = HTTP::ProblemDetails.new(DatabaseError.new).to_h.merge("detail" => what)
        render json: JSON.generate(problem), status: :service_unavailable, content_type: HTTP::ProblemDetails::MEDIA_TYPE
      end
    end
  end
end
