# frozen_string_literal: true

module TaskerCore
  class Worker
    # A worker process of the {Supervisor}. TERM, INT and HUP drain and end it; QUIT ends it at once and releases its
    # steps. It also ends when its parent has ended. After a signal it ends within the shutdown timeout and {MARGIN}.
    #
    # While the parent lives, a second TERM has no effect: a terminal, or systemd, sends each signal to all processes of
    # a group, and the supervisor passes it on as well. To stop at once, the supervisor sends QUIT.
    #
    # @api private
    class ChildProcess
      PARENT_WATCH = 1.0
      # Seconds beyond the shutdown timeout to release steps, call listeners and write log lines.
      MARGIN = 4.0
      SIGNALS = %w[TERM INT QUIT HUP].freeze
      ORPHANED = "ORPHANED"
      private_constant :PARENT_WATCH, :SIGNALS, :ORPHANED

      # Sets traps for the signals that end a worker or a supervisor, except for HUP where it is ignored (nohup).
      # @yieldparam signal [String] in a trap context, where the block must not wait
      def self.trap_signals
        SIGNALS.each do |signal|
          before = trap(signal) { yield signal }
          trap(signal, "IGNORE") if signal == "HUP" && before == "IGNORE"
        end
      end

      # @param configuration [Configuration]
      # @param number [Integer] of this worker, from 0
      # @param parent [Integer] the supervisor's process id
      # @param signals [Thread::Queue] may contain signals received since the fork
      def initialize(configuration:, number: 0, parent: Process.ppid, signals: Thread::Queue.new)
        @configuration = configuration
        @number = number
        @parent = parent
        @signals = signals
        @orders = Thread::Queue.new
        @title = ProcessTitle.new("worker #{number}")
      end

      # @return [Integer] exit status
      def run
        self.class.trap_signals { |signal| @signals << signal }
        @watchers = [Support::RestartingThread.new("tasker-signals") { loop { order(@signals.pop) } },
                     Support::RestartingThread.new("tasker-process") { watch }]
        work
        0
      rescue Error => e
        report("failed: #{e.message}")
        1
      rescue StandardError => e # the supervisor sees only the exit status
        report("failed: #{e.full_message(highlight: false)}")
        1
      ensure
        Tracing.flush
        Logging::Pump.flush # the process may end without its at_exit blocks
      end

      private

      def work
        AttemptPrinter.attach if AttemptPrinter.enabled?
        @worker = Worker.new(configuration: @configuration, name: "worker-#{@number}")
        stop(@worker.start, @orders.pop) if @orders.empty?
        TaskerCore.events.stop
      end

      def order(signal)
        order = at_once?(signal) ? :stop : :drain
        return if @order == :stop || order == @order

        @order = order
        end_within(MARGIN + (order == :drain ? @configuration[:execution, :shutdown_timeout] : 0))
        @orders << order
      end

      def at_once?(signal)
        return false if signal == ORPHANED

        signal == "QUIT" || (!@order.nil? && orphaned?)
      end

      def orphaned? = Process.ppid != @parent

      # Ends the process even if a handler, a listener or a stream blocks: other workers get its steps when the leases
      # end.
      def end_within(seconds)
        Thread.new do
          sleep seconds
          report("did not stop within #{seconds.round(1)} s and exits")
          exit!(1)
        end
      end

      def watch
        until @orphaned
          @title.show(state)
          sleep PARENT_WATCH
          @orphaned = @signals << ORPHANED if orphaned?
        end
      end

      def state
        activity = { drain: ", draining", stop: ", stopping" }[@order]
        ", #{@worker&.running || 0} running#{activity}"
      end

      def stop(worker, order)
        return worker.stop(timeout: 0) if order == :stop

        stopped = Thread::Queue.new
        stop_in_thread(stopped) { drain_and_stop(worker) }
        stop_in_thread(stopped) { @orders.pop && worker.stop(timeout: 0) }
        stopped.pop
      end

      def drain_and_stop(worker)
        worker.drain
        report("claims no more steps")
      ensure
        worker.stop # steps that it cannot release are found by others when their leases expire
      end

      def stop_in_thread(stopped)
        Thread.new do
          yield
        ensure
          stopped << true
        end
      end

      def report(text) = Support::SafeOutput.line("tasker: worker #{@number} #{text}")
    end
  end
end
