# frozen_string_literal: true

module TaskerCore
  module V1
    # Is it alive, is it ready, how does it stand? Who asks the first two is told one word, and need not be known.
    class HealthController < BaseController
      skip_before_action :verify_enabled
      skip_before_action :authenticate, only: %i[live ready]

      def live = answer({ status: "live" })

      def ready
        Health.new.verify!
        answer({ status: "ready" })
      rescue FunctionsMissingError => e
        unready("functions", e)
      rescue DatabaseError, ActiveRecord::ActiveRecordError => e
        unready("database", e)
      end

      def standing
        query
        authorize(:show, :health)
        answer(Health.new.to_h)
      end

      private

      # Asked every few seconds, it is told to the log alone.
      def unready(what, error)
        Instrumentation.instrument("fail_request", error: error)
        problem = Problem.new(DatabaseError.new).to_h.merge("detail" => what)
        render json: JSON.generate(problem), status: :service_unavailable, content_type: Problem::MEDIA_TYPE
      end
    end
  end
end
