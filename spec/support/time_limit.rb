# frozen_string_literal: true

# Fails a hanging test and shows where each thread was. A slow test sets its own limit: `it "…", limit: 600`.
class TimeLimit
  include TaskerCore::Support::MonotonicClock

  # The slowest tests take a minute on a busy machine.
  SECONDS = 300
  # If Ruby cannot interrupt the waiting thread, the process ends after this time.
  GRACE = 60

  class Overdue < StandardError
  end

  # @param seconds [Numeric]
  # @param out [IO] for the backtraces
  # @param title [String] of the test
  def initialize(seconds, title:, out: $stderr)
    @seconds = seconds
    @title = title
    @out = out
    @mutex = Mutex.new
    @end = ConditionVariable.new
  end

  # @raise [Overdue] in the calling thread when the block takes longer
  def within
    watching = watch(Thread.current)
    yield
  ensure
    @mutex.synchronize { (@ended = true) && @end.signal }
    watching&.join
  end

  private

  def watch(thread)
    Thread.new do
      next if ended_within?(@seconds)

      report
      thread.raise(Overdue, "#{@title}: has not ended within #{@seconds} s")
      next if ended_within?(GRACE)

      @out.puts "#{@title}: cannot be interrupted"
      exit!(1)
    end
  end

  def ended_within?(seconds)
    ending = now + seconds
    @mutex.synchronize do
      @end.wait(@mutex, ending - now) until @ended || now >= ending
      @ended
    end
  end

  def report
    @out.puts "#{@title}: has not ended within #{@seconds} s"
    Thread.list.each do |thread|
      @out.puts("  #{thread.inspect}", thread.backtrace.to_a.map { |line| "    #{line}" })
    end
  end
end

RSpec.configure do |config|
  config.around do |example|
    limit = TimeLimit.new(example.metadata.fetch(:limit, TimeLimit::SECONDS), title: example.full_description)
    limit.within { example.run }
  end
end
