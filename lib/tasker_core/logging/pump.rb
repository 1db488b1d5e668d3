# frozen_string_literal: true

module TaskerCore
  class Logging
    # Writes what Rust has to say to the application's logger, and what Ruby's threads say meanwhile: a thread that waits for
    # lines without Ruby's lock, takes them in batches, and passes the logger's level on. Rust never calls a logger, and
    # a handler's thread does not wait for a file.
    #
    # @api private
    class Pump
      # How soon a changed level is passed on while there is nothing to write.
      LEVEL_INTERVAL = 1.0
      # Seconds for a write that is under way when the pump ends: a full pipe whose reader does not read would hold it for ever.
      PATIENCE = 5.0
      private_constant :LEVEL_INTERVAL, :PATIENCE

      @running = [].freeze

      class << self
        # @return [Boolean] whether a thread of this process writes to the logger; those of a parent's are none
        def active_for?(logger) = @running.any? { |pump| pump.writes_to?(logger) }

        # @api private
        def add(pump)
          @running = [*@running, pump].freeze
        end

        # @api private
        def remove(pump)
          @running = (@running - [pump]).freeze
        end

        # Writes what waits, at once and in the calling thread: before a process ends.
        # @param logging [Logging]
        def flush(logging = TaskerCore.logging)
          loop do
            lines, dropped = Bridge.take_logs(join: logging.joins?)
            Instrumentation.instrument("log_lines_dropped", count: dropped, capacity: logging.capacity) if dropped.positive?
            break if lines.empty?

            lines.each { |severity, text| write(logging, severity, text) }
          end
        end

        private

        # A line is never lost to a logger that raises.
        def write(logging, severity, text)
          logging.write_line(severity, text)
        rescue StandardError => e
          Support::SafeOutput.line("tasker_core: the logger raised #{e.class}: #{e.message}; the line was: #{text}")
        end
      end

      # @param logging [Logging]
      def initialize(logging: TaskerCore.logging)
        @logging = logging
      end

      # @return [self]
      def start
        @logging.configure_extension
        @thread = Worker::RestartingThread.new("tasker-logs") { pump until @stopping }
        self.class.add(self)
        self
      end

      def writes_to?(logger) = @logging.logger.equal?(logger) && @thread.alive?

      # Ends the thread and writes what is left.
      def stop
        @stopping = true
        self.class.remove(self)
        Bridge.wake_logs
        @thread&.stop(patience: PATIENCE)
        self.class.flush(@logging)
      end

      private

      def pump
        Bridge.wait_for_logs(LEVEL_INTERVAL)
        self.class.flush(@logging)
        @logging.update_level
      end
    end
  end
end
