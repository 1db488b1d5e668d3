# frozen_string_literal: true

module TaskerCore
  # Writes what Rust has to say to the application's logger: a thread that waits for lines without Ruby's lock, takes
  # them in batches, and passes the logger's level on. Rust never calls a logger.
  class LogPump
    # How soon a changed level is passed on while there is nothing to write.
    LOOK = 1.0
    private_constant :LOOK

    class << self
      # Writes what waits, at once and in the calling thread: before a process ends.
      # @param logging [Logging]
      def flush(logging = TaskerCore.logging)
        loop do
          lines, dropped = Door.take_logs
          Instrumentation.instrument("drop_lines", count: dropped, capacity: logging.capacity) if dropped.positive?
          break if lines.empty?

          lines.each { |severity, text| write(logging, severity, text) }
        end
      end

      private

      # A line is never lost to a logger that raises.
      def write(logging, severity, text)
        logging.write_line(severity, text)
      rescue StandardError => e
        warn "tasker_core: the logger raised #{e.class}: #{e.message}; the line was: #{text}"
      end
    end

    # @param logging [Logging]
    def initialize(logging: TaskerCore.logging)
      @logging = logging
    end

    # @return [self]
    def start
      @logging.configure_native
      @thread = Thread.new do
        Thread.current.name = "tasker-logs"
        pump until @stopping
      end
      self
    end

    # Ends the thread and writes what is left.
    def stop
      @stopping = true
      Door.wake_logs
      @thread&.join
      self.class.flush(@logging)
    end

    private

    def pump
      Door.wait_for_logs(LOOK)
      self.class.flush(@logging)
      @logging.pass_level_on
    end
  end
end
