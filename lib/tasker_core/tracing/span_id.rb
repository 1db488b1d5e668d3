# frozen_string_literal: true

module TaskerCore
  module Tracing
    # The span id of an attempt follows from its token, so that other processes can link to its span without having to
    # store the id: the first 8 bytes of a digest of the task's uuid and the token, which no other attempt has.
    #
    # @api private
    module SpanId
      KEY = :tasker_core_span_id
      LOCK = Mutex.new
      private_constant :KEY, :LOCK

      # Gives a span the id that {SpanId.use} has set in this thread; otherwise the id of the application's generator.
      class Generator
        def initialize(generator)
          @generator = generator
        end

        def generate_trace_id = @generator.generate_trace_id

        def generate_span_id
          id = Thread.current[KEY]
          Thread.current[KEY] = nil
          id || @generator.generate_span_id
        end
      end

      module_function

      # @return [String] 8 bytes
      def of(task_uuid, token) = Digest::SHA256.digest("tasker_core attempt #{task_uuid} #{token}").byteslice(0, 8)

      # @return [Boolean] whether the application's provider takes ids from a generator
      def settable?
        provider = ::OpenTelemetry.tracer_provider
        return false unless provider.respond_to?(:id_generator=)
        return true if provider.id_generator.is_a?(Generator)

        LOCK.synchronize do
          generator = provider.id_generator
          provider.id_generator = Generator.new(generator) unless generator.is_a?(Generator)
        end
        true
      end

      # The first span that the block starts gets this id.
      def use(id)
        Thread.current[KEY] = id if settable?
        yield
      ensure
        Thread.current[KEY] = nil
      end
    end
  end
end
