# frozen_string_literal: true

require "fileutils"
require "socket"
require "tasker_core"

module Chaos
  # A real PgBouncer in transaction mode, at a Unix socket of its own, in front of a server.
  class Pooler
    # PgBouncer is missing, or does not start; the message is one sentence.
    class Unavailable < StandardError; end

    OWNER = TaskerCore::Development::PrivatePostgres::USER
    PORT = 6432
    # The first version that renames prepared statements, so that clients can share server connections.
    RENAMES = Gem::Version.new("1.21")
    # How long it may take to listen, in seconds.
    PATIENCE = 30
    private_constant :PORT, :RENAMES, :PATIENCE

    # @return [String] path of the program
    # @raise [Unavailable] naming what to install
    def self.program
      @program ||= [*ENV["PATH"].split(File::PATH_SEPARATOR), "/usr/sbin", "/usr/local/sbin"]
                   .map { |directory| "#{directory}/pgbouncer" }.find { |path| File.executable?(path) } ||
                   raise(Unavailable.new("PgBouncer was not found: install it with `apt-get install pgbouncer` " \
                                         "(Debian) or `brew install pgbouncer` (macOS)"))
    end

    # @return [Gem::Version]
    def self.version = Gem::Version.new(IO.popen([program, "--version"], &:read)[/PgBouncer (\S+)/, 1])

    # @return [Boolean] whether it has `max_prepared_statements`
    def self.renames_statements? = version >= RENAMES

    # @param prepared_statements [Integer] as in {#initialize}
    # @raise [Unavailable] if it is not installed, or too old
    def self.verify(prepared_statements)
      return if prepared_statements.zero? ? program : renames_statements?

      raise Unavailable.new("PgBouncer #{version} has no max_prepared_statements: install #{RENAMES} or later")
    end

    # @param directory [String] for its files
    # @param target [Hash] the server, with PgBouncer's keys; a user for all clients, unless there are `users`
    # @param prepared_statements [Integer] `max_prepared_statements`; 0: no client may prepare statements
    # @param users [Array<String>] roles that connect as themselves
    # @param settings [Hash] of PgBouncer, over these defaults
    # @raise [Unavailable]
    def initialize(directory, target, prepared_statements: 0, users: [], **settings)
      self.class.verify(prepared_statements)
      @directory = directory
      @target = target
      @users = users
      @settings = { listen_port: PORT, unix_socket_dir: directory, auth_type: "any", pool_mode: "transaction",
                    logfile: "#{directory}/log", default_pool_size: 2, max_client_conn: 200 }
      @settings.merge!(auth_type: "trust", auth_file: "#{directory}/users") if users.any?
      @settings[:max_prepared_statements] = prepared_statements if self.class.renames_statements?
      @settings.merge!(settings)
    end

    # @return [self]
    def start
      configure
      run
      self
    end

    # Kills it, with all its connections, and starts it again.
    def restart
      stop("KILL")
      FileUtils.rm_f(socket)
      run
    end

    def stop(signal = "TERM")
      return unless @pid

      Process.kill(signal, @pid)
      Process.wait(@pid)
      @pid = nil
    rescue Errno::ESRCH, Errno::ECHILD
      nil # it has ended already
    end

    # @return [String] path of its Unix socket
    def socket = "#{@directory}/.s.PGSQL.#{PORT}"

    # @return [String] for libpq, Active Record and the workers alike
    def url(database, user: OWNER) = "postgresql:///#{database}?host=#{@directory}&port=#{PORT}&user=#{user}"

    private

    def configure
      File.write("#{@directory}/pgbouncer.ini", <<~INI)
        [databases]
        * = #{@target.map { |key, value| "#{key}=#{value}" }.join(' ')}
        [pgbouncer]
        #{@settings.map { |name, value| "#{name} = #{value}" }.join("\n")}
      INI
      File.write("#{@directory}/users", @users.map { |user| "\"#{user}\" \"\"\n" }.join)
      FileUtils.chown(OWNER, nil, @directory) if root?
    end

    def run
      @pid = spawn(*as_owner, self.class.program, "-q", "#{@directory}/pgbouncer.ini",
                   chdir: "/", %i[out err] => "#{@directory}/out")
      deadline = TaskerCore::Support::MonotonicClock.now + PATIENCE
      until listening?
        late = TaskerCore::Support::MonotonicClock.now > deadline
        raise Unavailable.new("PgBouncer ended: #{words}") if late || Process.wait(@pid, Process::WNOHANG)

        IO.select(nil, nil, nil, 0.01)
      end
    end

    def words = File.read("#{@directory}/out").strip.lines.last.to_s.strip

    # The socket's file exists before PgBouncer listens.
    def listening?
      UNIXSocket.open(socket) { true }
    rescue Errno::ENOENT, Errno::ECONNREFUSED
      false
    end

    def root? = Process.uid.zero?

    # PgBouncer refuses to run as root.
    def as_owner = root? ? ["setpriv", "--reuid=#{OWNER}", "--regid=#{OWNER}", "--clear-groups", "--"] : []
  end
end
