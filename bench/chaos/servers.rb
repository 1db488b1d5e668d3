# frozen_string_literal: true

require "set"

module Chaos
  # The executions, from claims and attempts, and the created tasks in a database.
  Remains = Struct.new(:executions, :tasks) do
    # @param other [Remains]
    # @return [Remains] those that are only here
    def -(other) = Remains.new(executions - other.executions, tasks - other.tasks)

    # @return [Remains] the union
    def |(other) = Remains.new(executions | other.executions, tasks | other.tasks)
  end
  Remains::NONE = Remains.new(Set[].freeze, Set[].freeze).freeze

  # The database's servers: the primary, at an address that stays the same when a standby replaces it.
  class Servers
    # The time limit of a part of a fail-over, in seconds.
    PATIENCE = 30

    EXECUTIONS = "select l.token, t.uuid::text, d.name from " \
                 "(select token, task_id, position from tasker_step_attempts " \
                 "union select token, task_id, position from tasker_claimed_steps) as l " \
                 "join tasker_tasks t on t.id = l.task_id " \
                 "join tasker_step_definitions d using (workflow_version_id, position)"
    TASKS = "select task::text from chaos_created"
    private_constant :PATIENCE, :EXECUTIONS, :TASKS

    # A copy of the primary with asynchronous streaming replication.
    class Standby < TaskerCore::Development::PrivatePostgres
      # @param primary [TaskerCore::Development::PrivatePostgres]
      # @param settings [Hash] those of the primary
      def initialize(primary, **settings)
        super(**settings)
        @primary = primary
      end

      # Waits until it receives the primary's changes.
      def follow
        await("streaming") { value("select count(*) from pg_stat_wal_receiver where status = 'streaming'") == "1" }
      end

      # From now on, it does not receive the primary's commits.
      def stop_following
        value("alter system set primary_conninfo = ''")
        value("select pg_reload_conf()")
        await("the end of streaming") { value("select count(*) from pg_stat_wal_receiver") == "0" }
      end

      # Promotes it to a primary.
      def promote = server_command("pg_ctl", "--pgdata=#{data}", "--wait", "promote")

      private

      # The real directory of the server's programs, as there may be links to some of them.
      def bindir = @bindir ||= File.dirname(File.realpath("#{super}/postgres"))

      def make_data
        server_command("pg_basebackup", "--pgdata=#{data}", "--host=#{File.dirname(@primary.socket)}",
                       "--username=#{USER}", "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast",
                       "--no-sync")
      end

      def value(sql)
        connection = PG.connect(url)
        result = connection.exec(sql)
        result.getvalue(0, 0) if result.ntuples.positive?
      ensure
        connection&.close
      end

      def await(what)
        deadline = Effects.now + PATIENCE
        until yield
          raise Unavailable.new("the standby waited #{PATIENCE} s for #{what}") if Effects.now > deadline

          sleep 0.05
        end
      end
    end

    # @param settings [Hash] those of each server
    # @yieldparam servers [Servers]
    def self.run(**settings)
      Dir.mktmpdir("tasker-address") do |address|
        servers = new(address, settings)
        yield servers
      ensure
        servers&.stop
      end
    end

    def initialize(address, settings)
      @address = address
      @settings = settings
      @primary = TaskerCore::Development::PrivatePostgres.new(**settings).start
      lead_to(@primary)
    end

    # @return [String] the address of the current primary, for clients
    def url(database = "postgres") = "postgresql:///#{database}?host=#{@address}&user=postgres"

    # @return [String] path of the Unix socket of the address
    def socket = "#{@address}/.s.PGSQL.5432"

    # Stops the primary, runs the block, and starts it again.
    def down(mode, &block) = @primary.down(mode, &block)

    # @return [Standby] a new one that receives the primary's commits
    def standby
      standby = Standby.new(@primary, **@settings)
      standby.start.follow
      standby
    rescue StandardError
      standby&.stop
      raise
    end

    # Kills the primary, and replaces it with the standby. The old server's data are then read at an address without
    # clients, to determine exactly which commits the standby lacks.
    # @param database [String]
    # @return [Remains] those that only the old primary had
    def fail_over(standby, database)
      former = @primary
      left = nil
      former.down("immediate") do
        File.unlink(socket)
        standby.promote
        left = remains(standby, database)
        @primary = standby
      ensure
        lead_to(@primary)
      end
      remains(former, database) - left
    ensure
      (@primary == standby ? former : standby).stop
    end

    def stop = @primary.stop

    private

    # Changes the address atomically.
    def lead_to(server)
      FileUtils.rm_f("#{@address}/next")
      File.symlink(server.socket, "#{@address}/next")
      File.rename("#{@address}/next", socket)
    end

    def remains(server, database)
      connection = PG.connect(server.url(database))
      executions = connection.exec(EXECUTIONS).values.map { |token, task, step| [token.to_i, task, step] }
      Remains.new(executions.to_set, connection.exec(TASKS).column_values(0).to_set)
    ensure
      connection&.close
    end
  end
end
