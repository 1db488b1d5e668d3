# frozen_string_literal: true

module TaskerCore
  module Correlation
    # Rack middleware: takes the correlation id from a request's header (`correlation.header`), or makes one, and answers it in
    # the response's. What is created, logged or enqueued meanwhile has it. The engine puts it before all others, unless
    # `correlation.middleware` is false.
    #
    # @api private
    class RackMiddleware
      # @param app [#call]
      # @param header [String]
      def initialize(app, header: Correlation.header)
        @app = app
        @request = "HTTP_#{header.upcase.tr('-', '_')}".freeze
        @response = header.downcase.freeze
      end

      def call(env)
        Correlation.within(env[@request].presence) do
          context = Logging::Context.current
          TaskerCore.logging.around(context) do
            status, headers, body = @app.call(env)
            [status, headers.merge(@response => context.correlation_id), body]
          end
        end
      end
    end
  end
end
