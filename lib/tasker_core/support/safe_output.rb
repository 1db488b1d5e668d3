# frozen_string_literal: true

require "io/wait"

module TaskerCore
  module Support
    # Lines for the terminal, or the log, of a process that works: a reader that is gone, a full disk or a terminal that has
    # vanished is never a reason to stop working. Commands that print for a reader (`tasker list | head`) do not use it: they end
    # when the reader ends.
    #
    # @api private
    module SafeOutput
      # Seconds to wait for a reader that is slow, before the line is dropped.
      PATIENCE = 1.0
      FAILURES = [SystemCallError, IOError].freeze
      private_constant :PATIENCE, :FAILURES

      # Streams that drop what they cannot write.
      module Tolerant
        def write(*texts)
          super
        rescue *FAILURES
          texts.sum { |text| text.to_s.bytesize }
        end

        def flush
          super
        rescue *FAILURES
          self
        end
      end
      private_constant :Tolerant

      module_function

      # Writes a line, or drops it: never raises because of the stream, and never waits for long. Further lines of a text are
      # indented, so that none can be taken for one of ours; what is not seen is written out.
      # @param text [String]
      # @param stream [IO, StringIO]
      # @return [Boolean] whether the line was written
      def line(text, stream = $stderr)
        return false if stream.is_a?(IO) && !stream.wait_writable(PATIENCE)

        stream.puts(VisibleText.lines(text).gsub("\n", "\n  "))
        true
      rescue *FAILURES
        false
      end

      # Makes streams drop what they cannot write, for everything in this process that writes to them: loggers, handlers, Ruby's
      # own warnings. They are written to at once, as a process that ends by `exit!` leaves its buffers behind.
      # @param streams [Array<IO, StringIO>]
      def tolerate(*streams)
        streams.each do |stream|
          stream.extend(Tolerant)
          stream.sync = true
        end
      end
    end
  end
end
