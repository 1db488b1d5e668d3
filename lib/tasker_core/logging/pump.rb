# frozen_string_literal: true

module TaskerCore
  class Logging
    # A thread that writes log lines of Rust, and those of Ruby's threads, to the application's logger: it waits for
    # lines without Ruby's lock and takes them in batches. So Rust never calls a logger, and handlers do not wait for a
    # file. It also passes changes of the logger's level to Rust.
    #
    # @api private
    class Pump
      # Seconds after which a changed level is passed on when there are no lines.
      LEVEL_INTERVAL = 1.0
      # Seconds to wait at the end for a write in progress: a full pipe without a reader would block it for ever.
      PATIENCE = 5.0
      private_constant :LEVEL_INTERVAL, :PATIENCE

      @running = [].freeze

      class << self
        # @param logger [Logger]
        # @return [Boolean] whether a thread of this process writes to it; those of a parent process do not count
        def active_for?(logger) = @running.any? { |pump| pump.writes_to?(logger) }

        # @api private
        def add(pump)
          @running = [*@running, pump].freeze
        end

        # @api private
        def remove(pump)
          @running = (@running - [pump]).freeze
        end

        # Writes all waiting lines in the calling thread, before a process ends.
        # @param logging [Logging]
        def flush(logging = TaskerCore.logging)
          loop do
            lines, dropped = Bridge.take_logs(join: logging.joins?)
            report_dropped(logging, dropped) if dropped.positive?
            break if lines.empty?

            lines.each { |severity, text| write(logging, severity, text) }
          end
        end

        private

        def report_dropped(logging, count)
          Instrumentation.instrument("log_lines_dropped", count: count, capacity: logging.capacity)
        end

        # Prints the line itself when the logger raises.
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
        @thread = Support::RestartingThread.new("tasker-logs") { pump until @stopping }
        self.class.add(self)
        self
      end

      # @param logger [Logger]
      # @return [Boolean]
      def writes_to?(logger) = @logging.logger.equal?(logger) && @thread.alive?

      # Ends the thread and writes the remaining lines.
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
