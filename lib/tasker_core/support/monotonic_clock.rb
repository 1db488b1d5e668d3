# frozen_string_literal: true

module TaskerCore
  module Support
    # A clock for durations and deadlines, which no one sets: unlike `Time.now` it never jumps. Included, it is the
    # private method `now`.
    #
    # @api private
    module MonotonicClock
      module_function

      # @return [Float] seconds since an arbitrary point
      def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
