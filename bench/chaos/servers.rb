# frozen_string_literal: true

require "set"

require_relative "network"

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

  # The database's servers: the primary, at an address that stays the same when a standby replaces it. In a network,
  # each server has a machine, where clients with a certificate reach it over TCP with TLS.
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

    # A server. With an authority, clients with a certificate also reach it over TCP with TLS.
    class Server < TaskerCore::Development::PrivatePostgres
      # A client that vanished is detected within seconds, so that its transaction does not keep its locks.
      REMOTE = { listen_addresses: "*", ssl: "on", ssl_cert_file: "server.crt", ssl_key_file: "server.key",
                 ssl_ca_file: "authority.crt", tcp_keepalives_idle: 2, tcp_keepalives_interval: 1,
                 tcp_keepalives_count: 3, tcp_user_timeout: 5000 }.freeze
      ACCESS = "local all all trust\nlocal replication all trust\nhostssl all all all cert\n"
      private_constant :REMOTE, :ACCESS

      # @return [Network::Machine, nil]
      attr_reader :machine

      # @param authority [Authority, nil] issues its certificate
      # @param names [Array<String>] those of the certificate
      # @param machine [Network::Machine, nil] where it runs
      def initialize(authority: nil, names: [], machine: nil, **settings)
        super(**(authority ? REMOTE : {}), **settings)
        @authority = authority
        @names = names
        @machine = machine
      end

      private

      def make_data
        super
        return unless @authority

        File.write("#{data}/pg_hba.conf", ACCESS)
        add_certificate
      end

      def add_certificate
        certificate, key = @authority.issue(@names.first, names: @names)
        { "server.crt" => certificate, "server.key" => key, "authority.crt" => @authority.path }.each do |name, path|
          FileUtils.cp(path, "#{data}/#{name}", preserve: true)
          FileUtils.chown(USER, nil, "#{data}/#{name}") if root?
        end
      end

      def as_owner = [*@machine&.prefix, *super]
    end

    # A copy of the primary with asynchronous streaming replication.
    class Standby < Server
      # @param primary [Server]
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
        add_certificate if @authority
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

    # What `docs/scaling.md` recommends for clients in a network: they give up a silent server within seconds.
    PATIENT = { connect_timeout: 2, tcp_user_timeout: 5000, keepalives_idle: 2, keepalives_interval: 1,
                keepalives_count: 3 }.freeze
    private_constant :PATIENT

    # @param network [Network, nil]
    # @param settings [Hash] those of each server
    # @yieldparam servers [Servers]
    def self.run(network: nil, **settings)
      Dir.mktmpdir("tasker-address") do |address|
        servers = new(address, network, settings)
        yield servers
      ensure
        servers&.stop
      end
    end

    def initialize(address, network, settings)
      @address = address
      File.chmod(0o711, address) # for a pooler, which runs as another user
      @network = network
      @authority = Authority.new(address) if network
      @settings = settings
      @primary = Server.new(**place(network&.servers&.first)).start
      lead_to(@primary)
    end

    # @return [String] the address of the current primary, for clients
    def url(database = "postgres") = "postgresql:///#{database}?host=#{@address}&user=postgres"

    # @param user [String] a role, which gets a certificate
    # @param hosts [Array<String>] names of machines; by default the one whose machine changes with a fail-over
    # @return [String] the address for clients on machines of the network
    def remote_url(database, user: "postgres", hosts: [Network::SERVICE])
      certificate, key = @authority.issue(user)
      parameters = { host: hosts.join(","), user: user, sslmode: "verify-full", sslrootcert: @authority.path,
                     sslcert: certificate, sslkey: key, **PATIENT }
      parameters[:target_session_attrs] = "read-write" if hosts.size > 1
      "postgresql:///#{database}?#{parameters.map { |parameter| parameter.join('=') }.join('&')}"
    end

    # @return [String] path of the Unix socket of the address
    def socket = "#{@address}/.s.PGSQL.5432"

    # Stops the primary, runs the block, and starts it again.
    def down(mode, &block) = @primary.down(mode, &block)

    # @return [Standby] a new one that receives the primary's commits
    def standby
      standby = Standby.new(@primary, **place((@network&.servers.to_a - [@primary.machine]).first))
      standby.start.follow
      standby
    rescue StandardError
      standby&.stop
      raise
    end

    # Kills the primary, and replaces it with the standby; in a network, the clients of the old one see silence until
    # the address leads to the new one. The old server's data are then read at an address without clients, to determine
    # exactly which commits the standby lacks.
    # @param database [String]
    # @return [Remains] those that only the old primary had
    def fail_over(standby, database)
      former = @primary
      left = nil
      @network&.fence(former.machine)
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
      former.machine&.reconnect
    end

    def stop = @primary.stop

    private

    # @return [Hash] the arguments of a server, on that machine if there is one
    def place(machine)
      return @settings unless machine

      { machine: machine, authority: @authority, names: [machine.domain_name, Network::SERVICE], **@settings }
    end

    # Changes the address atomically.
    def lead_to(server)
      FileUtils.rm_f("#{@address}/next")
      File.symlink(server.socket, "#{@address}/next")
      File.rename("#{@address}/next", socket)
      @network&.lead_to(server.machine)
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
