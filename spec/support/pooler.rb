# frozen_string_literal: true

require "tmpdir"
require_relative "workers"

# A real PgBouncer between the workers and the tests' server.
class Pooler
  OWNER = TaskerCore::Development::PrivatePostgres::USER

  # @return [String]
  # @raise [RuntimeError] naming what to install
  def self.program
    @program ||= [*ENV["PATH"].split(File::PATH_SEPARATOR), "/usr/sbin", "/usr/local/sbin"]
                 .map { |directory| "#{directory}/pgbouncer" }.find { |path| File.executable?(path) } ||
                 raise("PgBouncer was not found: install it with `apt-get install pgbouncer` (Debian) or `brew " \
                       "install pgbouncer` (macOS)")
  end

  # @return [Gem::Version]
  def self.version = Gem::Version.new(IO.popen([program, "--version"], &:read)[/PgBouncer (\S+)/, 1])

  # @param settings [Hash] of PgBouncer, over its defaults
  # @yieldparam url [String] of the tests' database, through the pooler
  def self.run(**settings, &block)
    Dir.mktmpdir("tasker-pooler") { |directory| new(directory, settings).run(&block) }
  end

  def initialize(directory, settings)
    @directory = directory
    @settings = { listen_port: 6432, unix_socket_dir: directory, auth_type: "any", pool_mode: "transaction",
                  logfile: "#{directory}/log",
                  default_pool_size: 2, max_client_conn: 200, **settings }
  end

  def run
    configure
    pid = spawn(*as_owner, self.class.program, "-q", "#{@directory}/pgbouncer.ini",
                chdir: "/", %i[out err] => "#{@directory}/out")
    wait(pid)
    yield url
  ensure
    end_process(pid)
  end

  private

  include Workers

  def configure
    server = TaskerCore::Postgres::Address.of(url: SERVER_URL)
    host = server[:hosts].first
    target = { host: host[:host], port: host[:port], user: server[:user], password: host[:password] }.compact
    File.write("#{@directory}/pgbouncer.ini", <<~INI)
      [databases]
      * = #{target.map { |key, value| "#{key}=#{value}" }.join(' ')}
      [pgbouncer]
      #{@settings.map { |name, value| "#{name} = #{value}" }.join("\n")}
    INI
    FileUtils.chown(OWNER, nil, @directory) if root?
  end

  def url = "postgresql:///#{TEST_DATABASE}?host=#{@directory}&port=6432&user=#{OWNER}"

  def wait(pid)
    eventually do
      raise "PgBouncer ended: #{File.read("#{@directory}/out")}" if Process.wait(pid, Process::WNOHANG)

      listening?
    end
  end

  # The socket's file exists before PgBouncer listens.
  def listening?
    UNIXSocket.open("#{@directory}/.s.PGSQL.6432") { true }
  rescue Errno::ENOENT, Errno::ECONNREFUSED
    false
  end

  def root? = Process.uid.zero?

  # PgBouncer refuses to run as root.
  def as_owner = root? ? ["setpriv", "--reuid=#{OWNER}", "--regid=#{OWNER}", "--clear-groups", "--"] : []
end
