# frozen_string_literal: true

require "io/wait"

module TaskerCore
  module Support
    # Prints lines of a process that must continue whatever happens to its output: a closed pipe, a full disk or a
    # closed terminal never stops a worker. Commands that print for a reader (`tasker list | head`) do not use it: they
    # end with their reader.
    #
    # @api private
    module SafeOutput
      # Seconds to wait for a slow reader before a line is dropped.
      PATIENCE = 1.0
      FAILURES = [SystemCallError, IOError].freeze
      private_constant :PATIENCE, :FAILURES

      # Makes a stream drop what it cannot write.
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

      # Writes a line, or drops it: never raises an error of the stream, and waits for at most {PATIENCE}. Further lines
      # of the text are indented, so that none looks like a line of the gem; invisible characters are escaped.
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

      # Makes streams drop what they cannot write, for everything in this process that uses them: loggers, handlers,
      # Ruby's warnings. They become unbuffered, as `exit!` discards buffers.
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
