# frozen_string_literal: true

module TaskerCore
  class Worker
    # Ends the thread of a handler that goes on when its time limit has long passed: it may rescue the exception that told it
    # so, but no kill. By then its lease has ended, and somebody else may have the step.
    #
    # @api private
    class Watchdog
      include Support::MonotonicClock

      # @param grace [Numeric] seconds by which a handler may outlast its time limit
      def initialize(grace:)
        @grace = grace
        @deadlines = {}.compare_by_identity
        @contexts = {}.compare_by_identity
        @mutex = Mutex.new
        @wakeup = ConditionVariable.new
      end

      # Watches the calling thread while the block runs.
      # @param limit [Numeric] seconds that the block may take
      def watch(limit)
        thread = Thread.current
        @mutex.synchronize do
          @deadlines[thread] = now + limit + @grace
          @contexts[thread] = Logging::Context.current
        end
        yield
      ensure
        @mutex.synchronize do
          @deadlines.delete(thread)
          @contexts.delete(thread)
        end
      end

      # Begins to look, in a thread of its own.
      # @return [self]
      def start(interval: 1)
        @thread = RestartingThread.new("tasker-watchdog") do
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

      # While the mutex is held, none of the threads can leave its block: nothing else of theirs is hit.
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
