# frozen_string_literal: true

module Chaos
  # What goes wrong: each public method is one kind of fault, and answers whether there was something to do it to.
  class Faults
    Kill = Struct.new(:at, :pid)

    # How often each kind comes, in proportion.
    KINDS = { kill_worker: 5, kill_supervisor: 1, pause_worker: 4, drain: 2, restart_fast: 1, restart_immediate: 1,
              terminate_backends: 3, cut_connections: 3, half_open_connections: 3, delay_network: 2, exhaust_connections: 1,
              skew_clock: 2, hold_transaction: 2, cancel_tasks: 4, act_as_operator: 6 }.freeze

    # @return [Hash{Symbol => Integer}] how many of each kind
    attr_reader :counts
    # @return [Array<Kill>]
    attr_reader :kills

    def initialize(server:, database:, crew:, proxy:, random:)
      @server = server
      @database = database
      @crew = crew
      @proxy = proxy
      @random = random
      @counts = Hash.new(0)
      @kills = []
      @lasting = []
    end

    # Injects one fault.
    def strike
      draw = @random.rand(KINDS.values.sum)
      kind = KINDS.find { |_, weight| (draw -= weight).negative? }.first
      @counts[kind] += 1 if send(kind)
    rescue PG::Error
      nil # the server is down, by another fault
    end

    # Waits for faults that last, and undoes what stays.
    def heal
      @lasting.each(&:join)
      @crew.workers.each { |pid| @crew.signal("CONT", pid) }
      @proxy.delay = 0
      sql("alter role skewed reset tasker_core.clock_offset")
      terminate("usename = 'skewed'")
    end

    def kill_worker
      pid = pick(@crew.workers) or return
      kill(pid)
    end

    def kill_supervisor
      member = pick(@crew.members)
      @crew.signal("KILL", member.pid)
    end

    # Often for longer than a process may be silent: then it comes back late.
    def pause_worker
      pid = pick(@crew.workers) or return
      @crew.signal("STOP", pid)
      lasting(@random.rand(0.5..8.0)) { @crew.signal("CONT", pid) }
    end

    def drain
      member = pick(@crew.members)
      @crew.signal("TERM", member.pid)
    end

    def restart_fast = restart("fast")

    def restart_immediate = restart("immediate")

    def terminate_backends
      terminate("application_name = 'tasker_core' and random() < 0.5").positive?
    end

    def cut_connections = @proxy.cut.positive?

    def half_open_connections = @proxy.silence.positive?

    def delay_network
      @proxy.delay = @random.rand(0.02..0.3)
      lasting(@random.rand(1.0..5.0)) { @proxy.delay = 0 }
    end

    # Takes every connection that the server has left.
    def exhaust_connections
      taken = []
      loop { taken << PG.connect(@database, user: "greedy") }
    rescue PG::Error
      lasting(@random.rand(1.0..4.0)) { taken.each(&:close) }
    end

    # A worker whose idea of the time is wrong: ahead of others it finds them dead too early, behind them too late.
    def skew_clock
      sql("alter role skewed set tasker_core.clock_offset = '#{@random.rand(-2.0..2.0)} seconds'")
      terminate("usename = 'skewed'")
      true
    end

    # Keeps dead rows from being removed.
    def hold_transaction
      connection = PG.connect(@database)
      connection.exec("begin isolation level repeatable read")
      connection.exec("select count(*) from tasker_tasks")
      lasting(@random.rand(3.0..15.0)) { connection.close }
    end

    def cancel_tasks
      tasks = sql("select id from tasker_tasks where state = 'pending' order by random() limit 3")
      tasks.each { |task| verb("cancel_task", task.fetch("id")) }.any?
    end

    def act_as_operator
      failed = sql("select task_id, position from tasker_workflow_steps s join tasker_tasks t on t.id = s.task_id " \
                   "where s.state = 'error' and t.state in ('pending', 'error') order by random() limit 8")
      failed.each { |step| act_on(step.fetch("task_id"), step.fetch("position")) }.any?
    end

    private

    def restart(mode)
      @server.down(mode) { sleep @random.rand(2.0) }
      true
    end

    def act_on(task, position)
      case @random.rand(6)
      when 0, 1 then verb("resolve_step", task, position)
      when 2 then verb("complete_step", task, position, JSON.generate(value: @random.rand(1000), by: "operator"))
      when 3, 4 then verb("reset_step", task, position)
      else verb("resolve_task", task)
      end
    end

    # A verb that the state forbids (others are at work too) changes nothing.
    def verb(name, *arguments)
      placeholders = (1..(arguments.size + 2)).map { |number| "$#{number}" }.join(", ")
      sql("select tasker_core_v1.#{name}(#{placeholders})", [*arguments, "chaos", "campaign"])
    rescue PG::Error => e
      raise unless e.result&.error_field(PG::PG_DIAG_SQLSTATE)&.start_with?("TC")
    end

    def kill(pid)
      @kills << Kill.new(Effects.now, pid)
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

    def lasting(seconds)
      @lasting << Thread.new do
        sleep seconds
        yield
      end
      true
    end

    def pick(from) = from.sample(random: @random)
  end
end
