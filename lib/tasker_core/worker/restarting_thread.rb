# frozen_string_literal: true

require "English"

module TaskerCore
  class Worker
    # A thread that the application's code cannot end: a handler may kill whatever thread it finds, or leave it an exception for
    # later. Then another takes its place, unless it was asked to stop, or the process ends. One that dies again soon after its
    # start is replaced after a pause, which grows from death to death.
    #
    # @api private
    class RestartingThread
      include Support::MonotonicClock
      extend Support::MonotonicClock

      # Seconds; a thread that lived for less has died at once.
      QUICK_DEATH = 1.0
      FIRST_PAUSE = 0.1
      LONGEST_PAUSE = 5.0
      # Seconds that a killed thread has to end: its `ensure` may take for ever.
      KILL_PATIENCE = 1.0
      private_constant :QUICK_DEATH, :FIRST_PAUSE, :LONGEST_PAUSE, :KILL_PATIENCE

      class << self
        # Ends several threads, all of them within the time of one.
        # @param threads [Array<RestartingThread>]
        # @param patience [Numeric] seconds until those that have not ended are killed
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
      # @yield what the thread does; once that returns, it has ended
      def initialize(name, &work)
        @name = name
        @work = work
        @pid = Process.pid
        @quick_deaths = 0
        @thread = start
      end

      # @return [Boolean] whether the caller is it
      def current? = Thread.current.equal?(@thread)

      # @return [Boolean] whether there is a thread, in this process
      def alive? = @thread.alive?

      # @param limit [Numeric, nil] seconds
      # @return [Thread, nil] nil when it has not ended by then
      def join(limit = nil) = @thread.join(limit)

      # Ends it: waits until its work returns, and kills it when that takes too long.
      # @param patience [Numeric] seconds
      def stop(patience: 0.1) = self.class.stop([self], patience: patience)

      # From now on it is not replaced.
      def ask_to_stop = @stopping = true

      def kill = @thread.kill

      private

      def start(pause: 0, error: nil)
        Thread.new do
          Thread.current.name = @name
          Thread.current.report_on_exception = false # the thread that takes the place does it
          pause_after_death(pause, error) if @quick_deaths.positive?
          began = now
          @work.call
          ended = true
        ensure
          replace(began) unless ended || @stopping || Process.pid != @pid
        end
      end

      # @param began [Float, nil] nil when it died before its work
      def replace(began)
        @quick_deaths = began && now - began >= QUICK_DEATH ? 1 : @quick_deaths + 1
        pause = @quick_deaths < 2 ? 0 : [FIRST_PAUSE * (2**(@quick_deaths - 2)), LONGEST_PAUSE].min
        @thread = start(pause: pause, error: $ERROR_INFO)
      rescue ThreadError
        nil # the process ends, and with it all threads
      end

      # In the thread that takes the place: the one that died may be killed once more.
      def pause_after_death(pause, error)
        Instrumentation.instrument("thread_replaced", thread: @name, deaths: @quick_deaths, pause: pause, error: error)
        sleep pause
      end
    end
  end
end
