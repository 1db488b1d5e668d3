# frozen_string_literal: true

require "timeout"

module TaskerCore
  class Worker
    # Enforces the time limits of handlers. When its limit has passed, a handler gets a {TimeoutError}, which it may
    # rescue; if it still runs after a grace period, its thread is killed. By then its lease has expired, and another
    # attempt may run.
    #
    # @api private
    class Watchdog
      include Support::MonotonicClock

      # @param grace [Numeric] seconds between the end of the limit and the kill
      def initialize(grace:)
        @grace = grace
        @deadlines = {}.compare_by_identity
        @contexts = {}.compare_by_identity
        @mutex = Mutex.new
        @wakeup = ConditionVariable.new
      end

      # Runs the block in the calling thread, within a time limit.
      # @param seconds [Numeric]
      # @return [Object] what the block returns
      # @raise [TimeoutError] inside the block, when the limit has passed
      def limit(seconds, &block)
        watch(seconds + @grace) do
          Timeout.timeout(seconds, TimeoutError, "the time limit of #{seconds} s has passed", &block)
        end
      end

      # Begins to kill overdue threads, from a thread of its own.
      # @param interval [Numeric] seconds between two checks
      # @return [self]
      def start(interval: 1)
        @thread = Support::RestartingThread.new("tasker-watchdog") do
          @mutex.synchronize do
            until @stopped
              @wakeup.wait(@mutex, interval)
              kill_overdue
            end
          end
        end
        self
      end

      def stop
        @mutex.synchronize do
          @stopped = true
          @wakeup.signal
        end
        @thread&.stop(patience: 1)
      end

      private

      # @param seconds [Numeric] until the calling thread is killed
      def watch(seconds)
        thread = Thread.current
        @mutex.synchronize do
          @deadlines[thread] = now + seconds
          @contexts[thread] = Correlation::Context.current
        end
        yield
      ensure
        @mutex.synchronize do
          @deadlines.delete(thread)
          @contexts.delete(thread)
        end
      end

      # Holds the mutex, so that no thread can leave its block meanwhile and be killed for it in other code.
      def kill_overdue
        @deadlines.select { |_, deadline| deadline < now }.each_key do |thread|
          Instrumentation.instrument("thread_killed", thread: thread, context: @contexts.delete(thread))
          thread.kill
          @deadlines.delete(thread)
        end
      end
    end
  end
end
