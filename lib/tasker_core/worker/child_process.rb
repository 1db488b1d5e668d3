# frozen_string_literal: true

module TaskerCore
  class Worker
    # A process that is a worker and nothing else: runs until TERM, INT or HUP, drains, and ends; QUIT ends it at once, its
    # steps given back. It ends as well when its parent is gone. Once it is to end, it does so within the shutdown timeout and
    # {MARGIN}.
    #
    # While the parent lives, a second TERM changes nothing: a terminal, or systemd, sends each signal to all processes of a
    # group, and the supervisor passes it on besides. The supervisor sends QUIT when it is in a hurry.
    #
    # @api private
    class ChildProcess
      PARENT_WATCH = 1.0
      # Seconds beyond the shutdown timeout for giving steps back, telling listeners and writing lines.
      MARGIN = 4.0
      SIGNALS = %w[TERM INT QUIT HUP].freeze
      ORPHANED = "ORPHANED"
      private_constant :PARENT_WATCH, :SIGNALS, :ORPHANED

      # Sets traps for the signals that end a worker or a supervisor. Where HUP is ignored (nohup), it stays so.
      # @yieldparam signal [String] in a trap, so the block must not wait
      def self.trap_signals
        SIGNALS.each do |signal|
          before = trap(signal) { yield signal }
          trap(signal, "IGNORE") if signal == "HUP" && before == "IGNORE"
        end
      end

      # @param number [Integer] of this one among the supervisor's
      # @param parent [Integer] the supervisor's process id
      # @param signals [Thread::Queue] what has come since the fork may be in it
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
        report("cannot work: #{e.message}")
        1
      rescue StandardError => e
        report("cannot work: #{e.full_message(highlight: false)}")
        1
      ensure
        Logging::Pump.flush # whoever ends this process may do so without its at_exit
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

      # What a handler, a listener or a stream does not let end, ends here: others find the steps when the leases have passed.
      def end_within(seconds)
        Thread.new do
          sleep seconds
          report("has not ended within #{seconds.round(1)} s and gives up")
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
        report("takes nothing more")
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

      def report(text) = Support::SafeOutput.line("tasker: worker #{@number} #{text}")
    end
  end
end
