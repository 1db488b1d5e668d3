# frozen_string_literal: true

module Chaos
  # The faults: each public method injects one kind, and returns whether it had a target.
  class Faults
    Kill = Struct.new(:at, :pid)

    # Relative frequency of each kind.
    KINDS = { kill_worker: 10, kill_supervisor: 2, pause_worker: 8, drain: 4, restart_fast: 2, restart_immediate: 2,
              fail_over: 1, terminate_backends: 6, cut_connections: 6, half_open_connections: 6, delay_network: 4,
              exhaust_connections: 2, skew_clock: 4, jump_clock: 5, hold_transaction: 4, cancel_tasks: 8,
              act_as_operator: 12 }.freeze
    # Those of a network, in addition.
    OF_HOSTS = { link_down: 4, drop_packets: 4 }.freeze
    # Those of a pooler, in addition.
    OF_POOLER = { restart_pooler: 3 }.freeze
    # How long a host is isolated, in seconds: its processes are declared dead in that time.
    ISOLATION = (11.0..13.0)
    # A larger skew, in seconds, makes sweeps declare living processes dead.
    HARMLESS_SKEW = 1.5
    # The longest jump of the database's clock, in seconds.
    JUMP = 3600.0
    # How long the server may be unreachable when a fault has to be undone, in seconds.
    PATIENCE = 20
    # How long a worker may wait for a response on a silent connection, in seconds.
    STATEMENT_PATIENCE = 10

    # @return [Hash{Symbol => Integer}] the number of each kind
    attr_reader :counts
    # @return [Array<Kill>]
    attr_reader :kills
    # @return [Remains] what fail-overs have lost
    attr_reader :gone
    # @return [Disturbances]
    attr_reader :disturbances

    # @param fail_overs [Boolean] whether they are injected at random, like all other kinds
    def initialize(servers:, database:, crew:, proxy:, random:, pooler: nil, fail_overs: true)
      @servers = servers
      @database = database
      @crew = crew
      @proxy = proxy
      @pooler = pooler
      @random = random
      @kinds = fail_overs ? KINDS : KINDS.except(:fail_over)
      @kinds = @kinds.merge(OF_HOSTS) if crew.members.any?(&:machine)
      @kinds = @kinds.merge(OF_POOLER) if pooler
      @counts = Hash.new(0)
      @kills = []
      @lasting = []
      @gone = Remains::NONE
      @disturbances = Disturbances.new
      @clock = Clock.new(database)
    end

    # Injects one fault.
    # @param kind [Symbol] one of KINDS; by default one at random
    def strike(kind = draw)
      @counts[kind] += 1 if send(kind)
    rescue PG::Error
      nil # the server is down, by another fault
    end

    # Waits for lasting faults, and undoes permanent ones.
    def heal
      @lasting.each(&:join)
      @crew.workers.each { |pid| @crew.signal("CONT", pid) }
      @proxy.delay = 0
      jump(nil)
      sql("alter role skewed reset tasker_core.clock_offset")
      terminate("usename = 'skewed'")
      hasten
    end

    def kill_worker
      pid = pick(@crew.workers) or return
      kill(pid)
    end

    def kill_supervisor
      member = pick(@crew.members)
      @disturbances.note(:kill_supervisor, pids: @crew.workers(member))
      @crew.signal("KILL", member.pid)
    end

    # Often for longer than the process timeout, so that the worker returns late.
    def pause_worker
      pid = pick(@crew.workers) or return
      stop_for(@random.rand(0.5..8.0), pid)
    end

    def drain
      member = pick(@crew.members)
      @disturbances.note(:drain, pids: @crew.workers(member))
      @crew.signal("TERM", member.pid)
    end

    def restart_fast = restart("fast")

    def restart_immediate = restart("immediate")

    # The primary dies, and a standby that lacks the last commits replaces it. A worker is paused during this time and
    # later delivers outcomes of the lost state to the new primary.
    def fail_over
      standby = @servers.standby
      sleep @random.rand(0.2..1.0)
      standby.stop_following
      sleep @random.rand(0.1..3.0)
      pid = pick(@crew.workers)
      stop_for(@random.rand(1.0..4.0), pid) if pid
      throughout(:fail_over) { @gone |= @servers.fail_over(standby, URI(@database).path.delete("/")) }
      true
    end

    def terminate_backends
      @disturbances.note(:terminate_backends)
      terminate("application_name = 'tasker_core' and random() < 0.5").positive?
    end

    def cut_connections
      @disturbances.note(:cut_connections, pids: @crew.workers("through"))
      @proxy.cut.positive?
    end

    def half_open_connections
      @disturbances.note(:half_open_connections, to: Effects.now + STATEMENT_PATIENCE, pids: @crew.workers("through"))
      @proxy.silence.positive?
    end

    def delay_network
      @proxy.delay = @random.rand(0.02..0.3)
      lasting(@random.rand(1.0..5.0), :delay_network, @crew.workers("through")) { @proxy.delay = 0 }
    end

    def link_down = cut_off(:link_down, @random.rand(1.0..6.0))

    def drop_packets = cut_off(:drop_packets, @random.rand(1.0..6.0))

    # No other fault is injected in between, so that the losses have one cause.
    def isolate_host
      cut_off(%i[link_down drop_packets].sample(random: @random), @random.rand(ISOLATION))&.join
    end

    def restart_pooler
      throughout(:restart_pooler) { @pooler.restart }
      true
    end

    # Opens every connection that the server has left.
    def exhaust_connections
      taken = []
      loop { taken << PG.connect(@database, user: "greedy") }
    rescue PG::Error
      lasting(@random.rand(1.0..4.0), :exhaust_connections) { taken.each(&:close) }
    end

    # A worker with a wrong clock: ahead of the others it declares them dead too early, behind them too late.
    def skew_clock
      skew = @random.rand(-2.0..2.0)
      sql("alter role skewed set tasker_core.clock_offset = '#{skew} seconds'")
      @skew&.to = Effects.now
      @skew = (@disturbances.note(:skew_clock, to: nil) if skew.abs > HARMLESS_SKEW)
      @disturbances.note(:skew_clock, pids: @crew.workers("skewed"))
      terminate("usename = 'skewed'")
      true
    end

    # The database's clock jumps, and back. No other fault is injected in between, so that losses have one cause.
    def jump_clock
      jump(@random.rand(-JUMP..JUMP))
      sleep @random.rand(1.0..2.5)
      patiently { jump(nil) }
      sleep 0.7
      patiently { hasten }
      true
    end

    # Prevents the removal of dead rows.
    def hold_transaction
      connection = PG.connect(@database)
      connection.exec("begin isolation level repeatable read")
      connection.exec("select count(*) from tasker_tasks")
      lasting(@random.rand(3.0..15.0), nil) { connection.close }
    end

    def cancel_tasks
      tasks = sql("select id from tasker_tasks where state = 'pending' order by random() limit 3")
      tasks.each { |task| operate("cancel_task", task.fetch("id")) }.any?
    end

    def act_as_operator
      failed = sql("select task_id, position from tasker_workflow_steps s join tasker_tasks t on t.id = s.task_id " \
                   "where s.state = 'error' and t.state in ('pending', 'error') order by random() limit 8")
      failed.each { |step| act_on(step.fetch("task_id"), step.fetch("position")) }.any?
    end

    private

    def draw
      at = @random.rand(@kinds.values.sum)
      @kinds.find { |_, weight| (at -= weight).negative? }.first
    end

    def restart(mode)
      throughout(:restart) { @servers.down(mode) { sleep @random.rand(2.0) } }
      true
    end

    def stop_for(seconds, pid)
      @crew.signal("STOP", pid)
      lasting(seconds, :pause_worker, [pid]) { @crew.signal("CONT", pid) }
    end

    # One host at a time, so that the others detect it.
    def cut_off(way, seconds)
      members = @crew.members.select(&:machine)
      return if members.any? { |member| member.machine.cut_off? }

      member = pick(members)
      pids = @crew.workers(member)
      member.machine.cut_off(way)
      lasting(seconds, :cut_off, pids) { member.machine.reconnect }
    end

    # @param seconds [Float, nil] the offset from the real time; nil for none
    def jump(seconds)
      noted = @disturbances.note(:jump, to: nil)
      seconds ? @clock.jump(seconds) : @clock.heal
    ensure
      noted.to = Effects.now
    end

    # Ends waits that were scheduled while the clock was ahead: as times of day, they would last for up to an hour.
    def hasten
      soon = "clock_timestamp() + interval '1 minute'"
      late = sql("select task_id, position from tasker_waiting_steps where run_at > #{soon}")
      late.each { |step| operate("retry_step", step.fetch("task_id"), step.fetch("position")) }
      sql("update tasker_subscriptions set retry_at = null where retry_at > #{soon}")
    end

    def throughout(kind)
      noted = @disturbances.note(kind, to: nil)
      yield
    ensure
      noted.to = Effects.now
    end

    def act_on(task, position)
      case @random.rand(6)
      when 0, 1 then operate("resolve_step", task, position)
      when 2 then operate("complete_step", task, position, JSON.generate(value: @random.rand(1000), by: "operator"))
      when 3, 4 then operate("retry_step", task, position)
      else operate("resolve_task", task)
      end
    end

    # An action that the state forbids, because of concurrent changes, has no effect.
    def operate(name, *arguments)
      placeholders = (1..(arguments.size + 2)).map { |number| "$#{number}" }.join(", ")
      sql("select tasker_core_v1.#{name}(#{placeholders})", [*arguments, "chaos", "campaign"])
    rescue PG::Error => e
      raise unless e.result&.error_field(PG::PG_DIAG_SQLSTATE)&.start_with?("TC")
    end

    def kill(pid)
      @kills << Kill.new(Effects.now, pid)
      @disturbances.note(:kill_worker, pids: [pid])
      @crew.signal("KILL", pid)
    end

    def terminate(condition)
      sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and " \
          "pid <> pg_backend_pid() and #{condition}").ntuples
    end

    def sql(text, parameters = [])
      connection = PG.connect(@database)
      connection.exec_params(text, parameters)
    ensure
      connection&.close
    end

    # Retries while the server is down, or has no connection left.
    def patiently
      deadline = Effects.now + PATIENCE
      begin
        yield
      rescue PG::Error
        raise if Effects.now > deadline

        sleep 0.1
        retry
      end
    end

    # @param kind [Symbol, nil] the kind of disturbance, if it affects workers
    # @param pids [Array<Integer>, nil] the affected workers; nil for all
    # @return [Thread] ends with the fault
    def lasting(seconds, kind, pids = nil)
      noted = kind && @disturbances.note(kind, to: nil, pids: pids)
      thread = Thread.new do
        sleep seconds
        yield
        noted&.to = Effects.now
      end
      @lasting << thread
      thread
    end

    def pick(from) = from.sample(random: @random)
  end
end
