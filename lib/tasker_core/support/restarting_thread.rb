# frozen_string_literal: true

require "English"

module TaskerCore
  module Support
    # A thread that is replaced when it dies: a handler may kill any thread of its process, or raise an exception in it.
    # It is not replaced after {#ask_to_stop}, or when the process ends. A replacement that dies soon after its start is
    # replaced after a pause, which doubles with each such death.
    #
    # @api private
    class RestartingThread
      include MonotonicClock
      extend MonotonicClock

      # Seconds; a shorter life is a quick death.
      QUICK_DEATH = 1.0
      FIRST_PAUSE = 0.1
      LONGEST_PAUSE = 5.0
      # Seconds to wait for a killed thread: its `ensure` may never end.
      KILL_PATIENCE = 1.0
      private_constant :QUICK_DEATH, :FIRST_PAUSE, :LONGEST_PAUSE, :KILL_PATIENCE

      class << self
        # Stops several threads at the same time.
        # @param threads [Array<RestartingThread>]
        # @param patience [Numeric] seconds after which those that still run are killed
        def stop(threads, patience: 0.1)
          threads.each(&:ask_to_stop)
          await(threads, patience)
          threads.each(&:kill)
          await(threads, KILL_PATIENCE)
        end

        private

        def await(threads, seconds)
          deadline = now + seconds
          threads.each { |thread| thread.join([deadline - now, 0].max) }
        end
      end

      # @param name [String]
      # @yield the thread's work; the thread ends when the block returns
      def initialize(name, &work)
        @name = name
        @work = work
        @pid = Process.pid
        @quick_deaths = 0
        @thread = start
      end

      # @return [Boolean] whether it is the calling thread
      def current? = Thread.current.equal?(@thread)

      # @return [Boolean] false in a forked child, too
      def alive? = @thread.alive?

      # @param limit [Numeric, nil] seconds
      # @return [Thread, nil] nil when it has not ended by then
      def join(limit = nil) = @thread.join(limit)

      # Waits until the work returns, and kills the thread if that takes too long.
      # @param patience [Numeric] seconds
      def stop(patience: 0.1) = self.class.stop([self], patience: patience)

      # From now on it is not replaced.
      def ask_to_stop = @stopping = true

      def kill = @thread.kill

      private

      def start(pause: 0, error: nil)
        Thread.new do
          Thread.current.name = @name
          Thread.current.report_on_exception = false # the replacement reports it
          pause_after_death(pause, error) if @quick_deaths.positive?
          began = now
          @work.call
          ended = true
        ensure
          replace(began) unless ended || @stopping || Process.pid != @pid
        end
      end

      # @param began [Float, nil] nil if the thread died before it began to work
      def replace(began)
        @quick_deaths = began && now - began >= QUICK_DEATH ? 1 : @quick_deaths + 1
        pause = @quick_deaths < 2 ? 0 : [FIRST_PAUSE * (2**(@quick_deaths - 2)), LONGEST_PAUSE].min
        @thread = start(pause: pause, error: $ERROR_INFO)
      rescue ThreadError
        nil # the process is ending
      end

      # Runs in the replacement: the dying thread could be killed again.
      def pause_after_death(pause, error)
        Instrumentation.instrument("thread_replaced", thread: @name, deaths: @quick_deaths, pause: pause, error: error)
        sleep pause
      end
    end
  end
end
