# frozen_string_literal: true

module TaskerCore
  module Correlation
    # Rack middleware that makes a request's correlation id current: the one in its header (`correlation.header`), or a
    # new one. The response has it in the same header. The engine inserts it before all others, unless
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

      # @param env [Hash]
      # @return [Array(Integer, Hash, #each)]
      def call(env)
        Correlation.within(env[@request].presence) do
          context = Context.current
          TaskerCore.logging.around(context) do
            status, headers, body = @app.call(env)
            [status, headers.merge(@response => context.correlation_id), body]
          end
        end
      end
    end
  end
end
