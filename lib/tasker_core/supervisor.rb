# frozen_string_literal: true

module TaskerCore
  # The parent of worker processes: starts them, starts another for one that died, and passes signals on.
  #
  # TERM and INT drain: running steps go on up to the shutdown timeout. A second one stops at once. The supervisor
  # itself never uses the extension's runtime, so children are forked from a process without other threads of ours.
  class Supervisor
    QUICK_DEATH = 2.0
    LONGEST_PAUSE = 30.0
    Child = Struct.new(:number, :started_at, :deaths)
    private_constant :Child

    # @param configuration [Configuration]
    # @param out [IO] where starts and deaths are told
    def initialize(configuration: TaskerCore.config, out: $stderr)
      @configuration = configuration
      @out = out
      @children = {}
      @due = {}.compare_by_identity
      @signals = Thread::Queue.new
      @news, @teller = IO.pipe
    end

    # Runs until every child has ended after a signal.
    # @return [Integer] exit status: 0 when all ended in order
    def run
      trap_signals
      @configuration[:execution, :processes].times { |number| start(Child.new(number, nil, 0)) }
      watch until @children.empty? && @due.empty?
      @failed ? 1 : 0
    end

    private

    def trap_signals
      %w[TERM INT QUIT].each { |signal| trap(signal) { tell(@signals << signal) } }
      trap("CLD") { tell }
    end

    # Ends the wait for news; from a trap, so it must not block.
    def tell(_news = nil) = @teller.write_nonblock(".", exception: false)

    def watch
      handle(@signals.pop) until @signals.empty?
      reap
      @due.select { |_, at| at <= now }.each_key { |child| @due.delete(child) && start(child) }
      wait_for_news
    end

    # A signal, a child's end, or the time to start another.
    def wait_for_news
      return if @children.empty? && @due.empty?

      @news.wait_readable(@due.empty? ? nil : [@due.values.min - now, 0].max)
      @news.read_nonblock(4096, exception: false)
    end

    def handle(signal)
      @out.puts "tasker: #{signal}: #{@stopping ? 'stopping at once' : 'draining'}"
      @due.clear
      @children.each_key { |pid| kill(@stopping || signal == "QUIT" ? "QUIT" : "TERM", pid) }
      @stopping = true
    end

    def start(child)
      child.started_at = now
      pid = fork { run_child(child.number) }
      @children[pid] = child
      @out.puts "tasker: worker #{child.number} started as process #{pid}"
    end

    def run_child(number)
      %w[TERM INT QUIT CLD].each { |signal| trap(signal, "DEFAULT") }
      exit! WorkerProcess.new(configuration: @configuration, number: number).run
    end

    def reap
      while @children.any? && (pid, status = Process.wait2(-1, Process::WNOHANG))
        child = @children.delete(pid)
        child && ended(child, pid, status)
      end
    end

    def ended(child, pid, status)
      @failed ||= @stopping && !status.success?
      return @out.puts("tasker: worker #{child.number} (process #{pid}) has ended") if @stopping

      child.deaths = now - child.started_at < QUICK_DEATH ? child.deaths + 1 : 0
      pause = child.deaths.zero? ? 0 : [(2.0**child.deaths) * 0.1, LONGEST_PAUSE].min
      @out.puts "tasker: worker #{child.number} (process #{pid}) died: #{status}; another starts in #{pause.round(1)} s"
      @due[child] = now + pause
    end

    def kill(signal, pid)
      Process.kill(signal, pid)
    rescue Errno::ESRCH
      nil # it has ended; the next reap tells
    end

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end
end
