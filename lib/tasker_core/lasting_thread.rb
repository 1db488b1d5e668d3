# frozen_string_literal: true

module TaskerCore
  # A thread that the application's code cannot end: a handler may kill whatever thread it finds, or leave it an exception for
  # later. Then another takes its place, unless it was told to stop, or the process ends.
  class LastingThread
    # @param name [String]
    # @yield what the thread does; once that returns, it has ended
    def initialize(name, &work)
      @name = name
      @work = work
      @pid = Process.pid
      @thread = start
    end

    # @return [Boolean] whether the caller is it
    def current? = Thread.current.equal?(@thread)

    # @param limit [Numeric, nil] seconds
    # @return [Thread, nil] nil when it has not ended by then
    def join(limit = nil) = @thread.join(limit)

    # Ends it: waits until its work returns, and kills it when that takes too long.
    # @param patience [Numeric] seconds
    def stop(patience: 0.1)
      @stopping = true
      @thread.join(patience) || @thread.kill
      @thread.join
    end

    private

    def start
      Thread.new do
        Thread.current.name = @name
        @work.call
        ended = true
      ensure
        replace unless ended || @stopping || Process.pid != @pid
      end
    end

    def replace
      @thread = start
    rescue ThreadError
      nil # the process ends, and with it all threads
    end
  end
end
