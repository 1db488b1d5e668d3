# frozen_string_literal: true

module TaskerCore
  # Rack middleware: takes the correlation id from a request's `X-Correlation-ID`, or makes one, and answers it in the
  # response's. What is created, logged or enqueued meanwhile has it. The engine puts it before all others.
  class CorrelationMiddleware
    REQUEST = "HTTP_#{Correlation::HEADER.upcase.tr('-', '_')}".freeze
    RESPONSE = Correlation::HEADER.downcase
    private_constant :REQUEST, :RESPONSE

    def initialize(app)
      @app = app
    end

    def call(env)
      Correlation.within(env[REQUEST].presence) do
        context = LogContext.current
        TaskerCore.logging.around(context) do
          status, headers, body = @app.call(env)
          [status, headers.merge(RESPONSE => context.correlation_id), body]
        end
      end
    end
  end
end
