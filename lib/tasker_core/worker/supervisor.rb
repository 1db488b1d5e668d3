# frozen_string_literal: true

module TaskerCore
  class Worker
    # The parent of worker processes: starts them, replaces those that die, and passes signals on.
    #
    # TERM, INT and HUP drain: running steps continue up to the shutdown timeout. A second signal, or QUIT, stops at
    # once. A child that has not ended in time is killed, so that a drain always ends. The supervisor never starts the
    # extension's runtime, so that it has no threads when it forks.
    #
    # @api private
    class Supervisor
      include Support::MonotonicClock

      QUICK_DEATH = 2.0
      LONGEST_PAUSE = 30.0
      # Seconds beyond the shutdown timeout after which a child is killed: one more than a child needs to end itself.
      KILL_MARGIN = ChildProcess::MARGIN + 1.0
      PARENT_WATCH = 1.0
      Child = Struct.new(:number, :started_at, :deaths)
      private_constant :PARENT_WATCH, :Child

      # @param configuration [Configuration]
      # @param out [IO] for reports of starts and deaths, which are dropped if they cannot be written
      # @param parent [Integer, nil] a process id: drains when this process is not the parent, or no longer
      def initialize(configuration: TaskerCore.config, out: $stderr, parent: nil)
        @configuration = configuration
        @out = out
        @parent = parent
        @children = {}
        @due = {}.compare_by_identity
        @signals = Thread::Queue.new
        @wakeup_reader, @wakeup_writer = IO.pipe
        @title = ProcessTitle.new("supervisor")
      end

      # Runs until a signal has ended all children.
      # @return [Integer] exit status: 0 if all ended normally
      def run
        trap_signals
        report(StartupMessage.new(@configuration).to_s)
        @configuration[:execution, :processes].times { |number| start(Child.new(number, nil, 0)) }
        watch until @children.empty? && @due.empty?
        @failed ? 1 : 0
      end

      private

      def trap_signals
        ChildProcess.trap_signals { |signal| wake(@signals << signal) }
        trap("CLD") { wake }
      end

      # Ends {#wait_for_wakeup}. Called in a trap context, so it must not block.
      def wake(_signal = nil) = @wakeup_writer.write_nonblock(".", exception: false)

      def watch
        handle(@signals.pop) until @signals.empty?
        handle("the parent process has ended") if @parent && !@stopping && Process.ppid != @parent
        reap
        kill_overdue if @kill_at && @kill_at <= now
        @due.select { |_, at| at <= now }.each_key { |child| @due.delete(child) && start(child) }
        wait_for_wakeup
      end

      # Waits for a signal, the end of a child, or the time to start or kill one.
      def wait_for_wakeup
        return if @children.empty? && @due.empty?

        show
        next_at = [*@due.values, *@kill_at, *(now + PARENT_WATCH if @parent && !@stopping)].min
        @wakeup_reader.wait_readable(next_at && [next_at - now, 0].max)
        @wakeup_reader.read_nonblock(4096, exception: false)
      end

      def handle(signal)
        at_once = @stopping || signal == "QUIT"
        report "#{signal}: #{at_once ? 'stopping at once' : 'draining'}"
        @due.clear
        @children.each_key { |pid| kill(at_once ? "QUIT" : "TERM", pid) }
        limit = now + KILL_MARGIN + (at_once ? 0 : @configuration[:execution, :shutdown_timeout])
        @kill_at = [*(@kill_at if @stopping), limit].min
        @stopping = true
      end

      # For children in which a handler has replaced the traps, or holds Ruby's lock.
      def kill_overdue
        @children.each do |pid, child|
          report "worker #{child.number} (process #{pid}) did not stop in time and is killed; its steps run again " \
                 "elsewhere"
          kill("KILL", pid)
        end
        @kill_at = nil
      end

      # Until the child sets its own traps, it has this process's traps and a copy of its queue, which keep its signals.
      # The child also gets the signals that are already in the queue: a second TERM has no further effect on it.
      def start(child)
        child.started_at = now
        parent = Process.pid
        pid = fork { run_child(child.number, parent) }
        @children[pid] = child
        report "worker #{child.number} started as process #{pid}"
      rescue SystemCallError => e
        await_next_start(child, "worker #{child.number} could not be started: #{e.message}")
      end

      def run_child(number, parent)
        status = 1
        ChildProcess.trap_signals { |signal| @signals << signal }
        trap("CLD", "DEFAULT")
        [@wakeup_reader, @wakeup_writer].each(&:close)
        status = ChildProcess.new(configuration: @configuration, number: number, parent: parent, signals: @signals).run
      ensure
        exit!(status)
      end

      def reap
        @children.keys.each do |pid| # rubocop:disable Style/HashEachMethods -- entries are deleted meanwhile
          _, status = Process.wait2(pid, Process::WNOHANG)
          ended(@children.delete(pid), pid, status) if status
        rescue Errno::ECHILD # other code has waited for it
          ended(@children.delete(pid), pid, nil)
        end
      end

      def ended(child, pid, status)
        @failed ||= @stopping && !status&.success?
        return report("worker #{child.number} (process #{pid}) has ended") if @stopping

        await_next_start(child, "worker #{child.number} (process #{pid}) died: #{status || 'its status is not known'}")
      end

      def await_next_start(child, what)
        child.deaths = now - child.started_at < QUICK_DEATH ? child.deaths + 1 : 0
        pause = child.deaths.zero? ? 0 : [(2.0**child.deaths) * 0.1, LONGEST_PAUSE].min
        report "#{what}; another starts in #{pause.round(1)} s"
        @due[child] = now + pause
      end

      def kill(signal, pid)
        Process.kill(signal, pid)
      rescue Errno::ESRCH
        nil # it has ended: the next reap finds it
      end

      def show
        count = @children.size
        @title.show(" [#{count} #{'worker'.pluralize(count)}]#{', draining' if @stopping}")
      end

      def report(text) = Support::SafeOutput.line("tasker: #{text}", @out)
    end
  end
end
