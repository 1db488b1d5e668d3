# frozen_string_literal: true

# A test that hangs fails, and shows where each thread was. A test that needs longer says so: `it "…", limit: 600`.
class TimeLimit
  include TaskerCore::Support::MonotonicClock

  # The longest take a minute on a busy machine.
  SECONDS = 300
  # A thread that waits where Ruby cannot interrupt it does not fail: then the process ends.
  GRACE = 60

  class Overdue < StandardError
  end

  # @param seconds [Numeric]
  # @param out [IO] where the backtraces go
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
