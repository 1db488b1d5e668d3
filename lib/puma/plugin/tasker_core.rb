# frozen_string_literal: true

require "puma/plugin"

module Puma
  # Runs `tasker work` beside the web server, for `plugin :tasker_core`. docs/operations.md.
  #
  # The command is a process of its own, which Puma's first process starts, never a web worker. It loads the application
  # itself and inherits no socket, and its errors never stop the web server. It ends when Puma has ended, also by
  # kill -9. This file needs nothing else of the gem, since Puma's first process may run without the application.
  class TaskerCoreWorker
    LIBRARY = File.expand_path("../..", __dir__)
    # Seconds between two checks of the process.
    INTERVAL = 0.5
    # Seconds before a restart. The pause doubles after each process that has lived for less than STEADY seconds.
    FIRST_PAUSE = 1
    LONGEST_PAUSE = 30
    STEADY = 60
    # For the next Puma after a restart: ids of processes that still drain.
    DRAINING = "TASKER_CORE_DRAINING"
    private_constant :LIBRARY, :INTERVAL, :FIRST_PAUSE, :LONGEST_PAUSE, :STEADY, :DRAINING

    # @param launcher [Puma::Launcher]
    def initialize(launcher)
      @launcher = launcher
      @owner = ::Process.pid
      @draining = ENV.delete(DRAINING).to_s.split(",").map(&:to_i)
    end

    def start
      on(:after_booted, :on_booted) { run }
      on(:after_stopped, :on_stopped) { stop }
      at_exit { await_end if owner? }
    end

    # Called before a hot restart. Does not wait: the process drains beside the new Puma, which has the same process id.
    def restart
      return unless owner?

      @leaving = true
      @thread&.join
      leave("TERM")
      ENV[DRAINING] = @draining.join(",")
    end

    private

    # Registers a hook, which has another name in Puma 6.
    def on(name, former, &block)
      events = @launcher.events
      events.public_send(events.respond_to?(name) ? name : former) { block.call if owner? }
    end

    # Web workers inherit the hooks.
    def owner? = ::Process.pid == @owner

    def run
      @due = now
      @pause = FIRST_PAUSE
      @thread ||= Thread.new do
        until @leaving
          watch
          sleep INTERVAL
        end
      end
      @thread.name = "tasker-puma"
      @thread.thread_variable_set(:fork_safe, true) # for Puma's warning about threads of a preloaded application
    end

    def watch
      reap
      follow_phased_restart
      work if !@pid && !@leaving && @due <= now
    rescue StandardError => e # must not stop this thread
      log "the worker cannot be watched: #{e.class}: #{e.message}"
    end

    # In a process group of its own: a terminal's Ctrl-C must reach the worker once, through Puma.
    def work
      @started = now
      @phase = phase
      @pid = ::Process.spawn(Gem.ruby, "-I", LIBRARY, "#{LIBRARY}/../exe/tasker", "work", "--parent", @owner.to_s,
                             pgroup: true, in: File::NULL, chdir: @launcher.restart_dir)
      log "worker started as process #{@pid}"
    rescue SystemCallError => e
      start_later("the worker could not be started: #{e.message}")
    end

    def reap
      @draining.reject! { |pid| ended(pid) }
      return unless @pid && (status = ended(@pid))

      @pid = nil
      start_later("the worker has ended: #{status}") unless @leaving
    end

    # @return [Object, nil] nil if it runs; Puma's cluster mode may have waited for it already
    def ended(pid)
      ::Process.wait2(pid, ::Process::WNOHANG)&.last
    rescue Errno::ECHILD
      "its status is not known"
    end

    def start_later(reason)
      pause = @pause
      @pause = now - @started < STEADY ? [@pause * 2, LONGEST_PAUSE].min : FIRST_PAUSE
      @due = now + pause
      log "#{reason}; another starts in #{pause} s"
    end

    # Lets another process load the new code. A refork, which loads none, keeps the first web worker.
    def follow_phased_restart
      return unless @pid && (current = phase)

      @phase ||= current # it was not known when the first web worker was just replaced
      return if current.zip(@phase).any? { |now, before| now == before }

      log "phased restart: the worker drains, and another starts"
      drain("TERM")
      @due = now
    end

    # @return [Array(Integer, Integer), nil] the phase and the first web worker's process; nil in single mode, or while
    #   this worker is replaced
    def phase
      stats = @launcher.stats
      first = stats[:worker_status]&.find { |worker| worker[:index].zero? }
      [stats[:phase], first[:pid]] if first
    end

    # Called in a trap context in some modes of Puma, so it must not wait.
    def stop
      leave("TERM")
      trap("INT") { @draining.each { |pid| kill("QUIT", pid) } }
    end

    def leave(signal)
      @leaving = true
      drain(signal) if @pid
    end

    def drain(signal)
      kill(signal, @pid)
      @draining << @pid
      @pid = nil
    end

    # The drain takes up to `execution.shutdown_timeout`. Without {stop}, Puma was halted.
    def await_end
      leave(@leaving ? "TERM" : "QUIT")
      reap
      log "waiting for the worker's running steps" if @draining.any?
      until @draining.empty?
        sleep 0.05
        reap
      end
    end

    def kill(signal, pid)
      ::Process.kill(signal, pid)
    rescue Errno::ESRCH
      nil # it has ended
    end

    def log(text) = @launcher.log_writer.log("* tasker_core: #{text}")

    def now = ::Process.clock_gettime(::Process::CLOCK_MONOTONIC)
  end
end

Puma::Plugin.create do
  # The launcher's events have a restart, too, but it includes phased ones, which keep this process.
  def config(puma)
    puma.public_send(puma.respond_to?(:before_restart) ? :before_restart : :on_restart) { @worker&.restart }
  end

  def start(launcher)
    @worker = Puma::TaskerCoreWorker.new(launcher)
    @worker.start
  end
end
