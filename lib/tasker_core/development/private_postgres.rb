# frozen_string_literal: true

require "fileutils"
require "open3"
require "pg"
require "tmpdir"

module TaskerCore
  module Development
    # A private PostgreSQL server in a temporary directory, with a socket of its own; removed after the block. For demo,
    # tests and `tasker run`.
    #
    # @api private
    class PrivatePostgres
      # A program is missing, or the server does not start; the message is one sentence.
      class Unavailable < StandardError; end

      NEEDED = %w[initdb pg_ctl postgres].freeze
      USER = "postgres"
      SETTINGS = { listen_addresses: "", max_connections: 200, max_wal_size: "4GB", shared_buffers: "256MB",
                   timezone: "UTC" }.freeze

      # libpq's environment variables without a connection parameter.
      OTHER_VARIABLES = %w[PGSERVICEFILE PGSYSCONFDIR PGDATESTYLE PGTZ PGGEQO PGDATA].freeze
      private_constant :OTHER_VARIABLES

      # @param settings [Hash] further settings of the server
      # @yieldparam server [PrivatePostgres]
      # @raise [Unavailable]
      def self.run(**settings)
        server = new(**settings).start
        yield server
      ensure
        server&.stop
      end

      def initialize(**settings)
        @settings = SETTINGS.merge(settings)
      end

      # @return [self]
      def start
        bindir
        forget_other_servers
        @directory = Dir.mktmpdir("tasker-pg")
        @owner = Process.pid
        FileUtils.chown(USER, nil, @directory) if root?
        at_exit { stop }
        make_data
        serve
        watch
        self
      end

      # Stops the server, runs the block, and starts it again on the same data.
      # @param mode ["fast", "immediate"] whether the server disconnects its sessions first, or stops as in a crash
      def down(mode)
        server_command("pg_ctl", "--pgdata=#{data}", "--mode=#{mode}", "--wait", "stop")
        yield
      ensure
        serve
      end

      # @return [String] path of its Unix socket
      def socket = "#{@directory}/.s.PGSQL.#{@settings.fetch(:port, 5432)}"

      def stop
        return unless @directory && @owner == Process.pid

        server_command("pg_ctl", "--pgdata=#{data}", "--mode=immediate", "--wait", "stop") if running?
        @watcher&.close
        FileUtils.rm_rf(@directory)
        @directory = nil
      end

      # @param database [String]
      # @return [String] for libpq, Active Record and the workers alike
      def url(database = USER)
        "postgresql:///#{database}?host=#{@directory}&user=#{USER}#{"&port=#{@settings[:port]}" if @settings[:port]}"
      end

      private

      def data = "#{@directory}/data"

      def make_data
        server_command("initdb", "--pgdata=#{data}", "--auth=trust", "--username=#{USER}", "--encoding=UTF8",
                       "--no-sync")
      end

      def options = @settings.map { |name, value| "-c #{name}='#{value}'" }.push("-k #{@directory}").join(" ")

      def serve
        server_command("pg_ctl", "--pgdata=#{data}", "--log=#{@directory}/log", "--wait", "--options=#{options}",
                       "start")
      end

      def running? = File.exist?("#{data}/postmaster.pid")

      # The shell's variables for other servers would also apply to this one.
      def forget_other_servers
        named = PG::Connection.conndefaults.filter_map { |row| row[:envvar] }
        ENV.reject! { |name, _| named.include?(name) || OTHER_VARIABLES.include?(name) }
      end

      def root? = Process.uid.zero?

      # Stops the server if this process is killed, which closes the pipe.
      def watch
        reader, @watcher = IO.pipe
        script = "read -r _; " \
                 "test -d '#{data}' && '#{bindir}/pg_ctl' --pgdata='#{data}' --mode=immediate --silent stop; " \
                 "rm -rf '#{@directory}'"
        pid = spawn(*as_owner, "sh", "-c", script, in: reader, out: File::NULL, err: File::NULL, pgroup: true,
                                                   @watcher => :close)
        Process.detach(pid)
        reader.close
      end

      def server_command(name, *arguments)
        output, status = Open3.capture2e(*as_owner, "#{bindir}/#{name}", *arguments, chdir: "/")
        return if status.success?

        log = File.exist?("#{@directory}/log") ? Support::Utf8.read("#{@directory}/log") : ""
        reason = (Support::Utf8.text(output) + log).scrub.strip.lines.last(3).join(" ").strip
        raise Unavailable.new("PostgreSQL's #{name} failed: #{reason}")
      end

      # PostgreSQL refuses to run as root.
      def as_owner = root? ? ["setpriv", "--reuid=#{USER}", "--regid=#{USER}", "--clear-groups", "--"] : []

      def bindir
        @bindir ||= candidates.find { |path| NEEDED.all? { |name| File.executable?("#{path}/#{name}") } } ||
                    raise(Unavailable.new("PostgreSQL's server programs (#{NEEDED.join(', ')}) were not found: " \
                                          "install them with `apt-get install postgresql` (Debian) or " \
                                          "`brew install postgresql` (macOS), or set DATABASE_URL"))
      end

      def candidates
        versions = Dir["/usr/lib/postgresql/*/bin"].sort_by { |path| -path[/\d+/].to_i }
        ENV["PATH"].split(File::PATH_SEPARATOR) + versions + Dir["/opt/homebrew/opt/postgresql*/bin"]
      end
    end
  end
end
