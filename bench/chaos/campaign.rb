# frozen_string_literal: true

# The fault campaign: workers under load, random faults, and a checker that verifies the history. See bin/chaos.
# The seed determines the faults and the created tasks, but not the machine's scheduling.

require "optparse"
require "tmpdir"
require "tasker_core"

require_relative "effects"
require_relative "workflows"
require_relative "ledger"
require_relative "proxy"
require_relative "authority"
require_relative "network"
require_relative "pooler"
require_relative "crew"
require_relative "servers"
require_relative "clock"
require_relative "disturbances"
require_relative "load"
require_relative "faults"
require_relative "history"
require_relative "checker"

module Chaos
  # One campaign, from an empty server to the checker's verdict.
  class Campaign
    DATABASE = "tasker_chaos"
    # How many seconds all tasks may take to end after the last fault.
    SETTLE_TIMEOUT = 180
    # Must not occur in a worker's log, whatever the fault.
    BUGS = /panicked|\[BUG\]|Segmentation|fatal|NoMethodError|InternalError|broken task|undefined method/

    # @param minutes [Float] how long faults are injected
    # @param seed [Integer]
    # @param fail_overs [Integer, nil] their number, at even intervals; nil: at random
    # @param hosts [Integer] number of machines of a network on which workers run; 0: without a network
    # @param pooler [Integer, nil] all workers connect through PgBouncer in transaction mode, with this value of
    #   max_prepared_statements; nil: none does
    # @raise [Network::Unavailable, Pooler::Unavailable] if there can be no network or no pooler
    def initialize(minutes:, seed:, fail_overs: nil, hosts: 0, pooler: nil, out: $stdout)
      raise ArgumentError.new("--hosts and --pooler exclude each other") if hosts.positive? && pooler

      Network.verify if hosts.positive?
      Pooler.verify(pooler) if pooler
      @minutes = minutes
      @seed = seed
      @fail_overs = fail_overs
      @hosts = hosts
      @prepared_statements = pooler
      @out = out
    end

    # @return [Boolean] whether there was no anomaly
    def run
      @out.puts "seed #{@seed}, #{@minutes} minutes"
      Dir.mktmpdir("tasker-chaos") do |directory|
        with_servers(directory) do |servers|
          prepare(servers)
          live(servers, directory)
          judge(directory)
        end
      end
    end

    private

    def with_servers(directory, &block)
      return Servers.run(max_connections: connections, &block) if @hosts.zero?

      Network.run(directory, hosts: @hosts) do |network|
        @network = network
        Servers.run(network: network, max_connections: 40 + (20 * @hosts), &block)
      end
    end

    def prepare(servers)
      TaskerCore.logger = Logger.new($stderr, level: :warn)
      @url = TaskerCore::Development::Database.create(servers.url, DATABASE)
      TaskerCore::Development::Database.prepare(@url)
      connection = ActiveRecord::Base.connection
      connection.execute("create table chaos_created (task uuid primary key)")
      connection.execute(Ledger::TABLE)
      # Before the first worker, because tasks are created before it starts.
      TaskerCore::Events::OutboxDispatcher.new(configuration: TaskerCore.config).register
      connection.execute("create role skewed superuser login; create role greedy login")
    end

    def live(servers, directory)
      @pooler = start_pooler(servers) if @prepared_statements
      proxy = Proxy.new((@pooler || servers).socket)
      urls = { "through" => "postgresql:///#{DATABASE}?host=127.0.0.1&port=#{proxy.port}&user=postgres",
               **urls(servers) }
      urls.transform_values! { |url| "#{url}&prepared_statements=false" } if @prepared_statements&.zero?
      machines = @network ? urls.keys.last(@hosts).zip(@network.hosts).to_h : {}
      @crew = assemble(urls, directory, processes: 2, threads: 3, machines: machines, poll_only: !@pooler.nil?)
      @load = Load.new(@url, Random.new(@seed), backlog: backlog).start
      @faults = faults(servers: servers, database: @url, crew: @crew, proxy: proxy, pooler: @pooler,
                       random: Random.new(@seed + 1), fail_overs: @fail_overs.nil?)
      strike
      @load.stop
      settle
    ensure
      @unstoppable = @crew&.stop
      @pooler&.stop
    end

    # Its clients share few server connections, so that their statements follow each other on each of them.
    def start_pooler(servers)
      directory = Dir.mktmpdir("tasker-pooler")
      at_exit { FileUtils.rm_rf(directory) }
      target = { host: File.dirname(servers.socket) }
      Pooler.new(directory, target, prepared_statements: @prepared_statements, users: %w[postgres skewed],
                                    default_pool_size: 4).start
    end

    # @return [Hash{String => String}] by the name of a member of the crew
    def urls(servers)
      return remote_urls(servers) if @network
      return { "direct" => @url, "skewed" => @url.sub("user=postgres", "user=skewed") } unless @pooler

      { "direct" => @pooler.url(DATABASE), "skewed" => @pooler.url(DATABASE, user: "skewed") }
    end

    # The first host has the virtual address, the second one connects as the role with a skewed clock, and the third one
    # has the addresses of both servers; further ones are like the first.
    def remote_urls(servers)
      addresses = [["host-1", {}], ["skewed", { user: "skewed" }],
                   ["multiple", { hosts: @network.servers.map(&:domain_name) }]]
      addresses += (4..@hosts).map { |number| ["host-#{number}", {}] }
      addresses.first(@hosts).to_h { |name, options| [name, servers.remote_url(DATABASE, **options)] }
    end

    def connections = 60

    def backlog = Load::BACKLOG

    def assemble(...) = Crew.new(...)

    def faults(...) = Faults.new(...)

    def strike
      random = Random.new(@seed + 2)
      due = [*evenly(:fail_over, @fail_overs.to_i), *evenly(:isolate_host, isolations)].sort
      deadline = Effects.now + (@minutes * 60)
      while Effects.now < deadline
        sleep random.rand(0.1..1.5)
        @crew.ensure_all
        next @faults.strike unless due.any? && Effects.now >= due.first.first

        @faults.strike(due.shift.last)
      end
      due.map(&:last).each { |kind| @faults.strike(kind) } # a busy machine may not have come to them
    end

    def isolations = @hosts.zero? ? 0 : [@minutes.round, 1].max

    # @return [Array<Array(Float, Symbol)>] times of this number of faults, at even intervals
    def evenly(kind, count)
      Array.new(count) { |number| [Effects.now + (@minutes * 60 * (number + 1) / (count + 1)), kind] }
    end

    def settle
      @faults.heal
      healed = Effects.now
      sleep 0.2 while @crew.ensure_all && (unended + undelivered).positive? && Effects.now - healed < SETTLE_TIMEOUT
      @settled_after = Effects.now - healed
    end

    def unended
      ActiveRecord::Base.connection.select_value("select count(*) from tasker_tasks where state = 'pending'")
    end

    def undelivered = ActiveRecord::Base.connection.select_value("select count(*) from tasker_outbox_events")

    def judge(directory)
      history = History.read(@url, directory, confirmed: @load.confirmed, rolled_back: @load.rolled_back,
                                              gone: @faults.gone, disturbances: @faults.disturbances)
      checker = Checker.new(history)
      anomalies = checker.anomalies.merge(of_processes)
      report(history, checker)
      anomalies.each { |rule, stories| report_anomalies(rule, stories) }
      @out.puts anomalies.empty? ? "no anomaly" : "ANOMALIES (seed #{@seed})"
      File.write(ENV["CHAOS_LOG"], @crew.log) if ENV["CHAOS_LOG"]
      anomalies.empty?
    end

    def of_processes
      { unstoppable: @unstoppable.map { |name| "supervisor #{name} did not end after TERM" },
        bugs: @crew.log.lines.grep(BUGS).uniq }.reject { |_, stories| stories.empty? }
    end

    def report(history, checker)
      row("faults injected", @faults.counts.values.sum)
      @faults.counts.sort.each { |kind, count| row("  #{kind.to_s.tr('_', ' ')}", count) }
      row("tasks", history.tasks.size)
      history.tasks.group_by(&:state).sort.each { |state, tasks| row("  #{state}", tasks.size) }
      row("creations rolled back", @load.rolled_back.size)
      row("creations without a response", @load.in_doubt)
      row("creations that fail-overs lost", history.gone.tasks.size)
      row("executions that fail-overs lost", (history.gone.executions & history.effects.map(&:execution)).size)
      row("attempts", history.attempts.size)
      history.attempts.group_by(&:outcome).sort.each { |outcome, attempts| row("  #{outcome}", attempts.size) }
      row("executions that repeat another, each explained", checker.duplicates)
      row("events delivered to a durable subscriber", history.delivered.size)
      row("kill -9 until its step ran again: s", spread(recoveries(history, @faults.kills)))
      report_hosts(history, checker) if @network
      row("until all tasks had ended after the last fault: s", @settled_after.round(1))
    end

    def report_hosts(history, checker)
      cuts = checker.isolations.flat_map { |cut| cut.pids.map { |pid| Faults::Kill.new(cut.from, pid) } }
      row("host isolated until its step ran again: s", spread(recoveries(history, cuts)))
      row("executions that ended on an isolated host", checker.finished_in_isolation.size)
    end

    # @return [String] the median and the longest
    def spread(times)
      times.empty? ? "-" : format("%.1f (%.1f)", *times.sort.values_at(times.size / 2, -1))
    end

    def row(title, value) = @out.puts(format("%-52s %10s", title, value))

    def report_anomalies(rule, stories)
      @out.puts "#{rule}: #{stories.size}"
      stories.first(10).each { |story| @out.puts "  #{story}" }
    end

    # Steps with an operator action are left out, because it may have happened much later.
    # @param kills [Array<Faults::Kill>]
    # @return [Array<Float>] seconds from each kill until each of the steps that ran then was started again
    def recoveries(history, kills)
      starts = history.effects.select { |line| line.kind == "start" }.group_by { |line| [line.task, line.step] }
      starts = starts.except(*history.acted_on)
      lost = history.attempts.select { |attempt| attempt.outcome == "lost" }.to_set(&:execution)
      kills.flat_map do |kill|
        starts.values.filter_map do |lines|
          cut = lines.find { |line| line.pid == kill.pid && line.at < kill.at && lost.include?(line.execution) }
          again = cut && lines.find { |line| line.at > kill.at }
          again.at - kill.at if again
        end
      end
    end
  end
end

if $PROGRAM_NAME == __FILE__
  options = { minutes: 2.0, seed: Random.new_seed % 1_000_000 }
  usage = "Usage: bin/chaos [--minutes N] [--seed S] [--fail-overs N] [--hosts N | --pooler [N] | --dispatch ADAPTER]"
  OptionParser.new(usage) do |parser|
    parser.on("--minutes N", Float, "how long faults are injected (default: 2)") do |minutes|
      options[:minutes] = minutes
    end
    parser.on("--seed S", Integer, "repeat the faults of another campaign") { |seed| options[:seed] = seed }
    parser.on("--fail-overs N", Integer,
              "number of fail-overs, at even intervals (default: at random, rare)") do |count|
      options[:fail_overs] = count
    end
    parser.on("--hosts N", Integer, "number of worker hosts in a network, over TCP with TLS (default: none)") do |count|
      options[:hosts] = count
    end
    parser.on("--pooler [N]", Integer,
              "all workers connect through PgBouncer in transaction mode, with this value of",
              "max_prepared_statements (default: 0)") { |count| options[:pooler] = count || 0 }
    parser.on("--dispatch ADAPTER", %w[sidekiq solid_queue good_job],
              "run most steps as jobs of sidekiq, solid_queue or good_job") do |adapter|
      options[:dispatch] = adapter
    end
  end.parse!
  require_relative "queue_campaign" if options[:dispatch]
  campaign = options[:dispatch] ? Chaos::QueueCampaign : Chaos::Campaign
  begin
    exit campaign.new(**options).run ? 0 : 1
  rescue Chaos::Network::Unavailable, Chaos::Pooler::Unavailable, ArgumentError => e
    abort "bin/chaos: #{e.message}"
  end
end
