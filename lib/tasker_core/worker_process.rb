# frozen_string_literal: true

module TaskerCore
  # A process that is a worker and nothing else: runs until TERM or INT, drains, and ends; a second signal, or QUIT,
  # ends it at once, its steps given back. It ends as well when its parent is gone.
  class WorkerProcess
    PARENT_WATCH = 1.0

    def initialize(configuration:, number: 0, parent: Process.ppid)
      @configuration = configuration
      @number = number
      @parent = parent
      @signals = Thread::Queue.new
    end

    # @return [Integer] exit status
    def run
      %w[TERM INT QUIT].each { |signal| trap(signal) { @signals << signal } }
      worker = Worker.new(configuration: @configuration, name: "worker-#{@number}").start
      stop(worker, wait_for_signal)
      TaskerCore.events.stop
      0
    rescue Error => e
      warn "tasker: worker #{@number}: #{e.message}"
      1
    ensure
      LogPump.flush # whoever ends this process may do so without its at_exit
    end

    private

    def wait_for_signal
      Thread.new { drain_without_parent }
      @signals.pop
    end

    # Once: a second TERM would mean to hurry.
    def drain_without_parent
      sleep PARENT_WATCH while Process.ppid == @parent
      @signals << "TERM"
    end

    def stop(worker, signal)
      return worker.stop(timeout: 0) if signal == "QUIT"

      stopped = Thread::Queue.new
      stop_in_thread(stopped) { drain_and_stop(worker) }
      stop_in_thread(stopped) { @signals.pop && worker.stop(timeout: 0) }
      stopped.pop
    end

    def drain_and_stop(worker)
      worker.drain
      warn "tasker: worker #{@number} takes nothing more"
    ensure
      worker.stop # what it could not give back, others find
    end

    def stop_in_thread(stopped)
      Thread.new do
        yield
      ensure
        stopped << true
      end
    end
  end
end
