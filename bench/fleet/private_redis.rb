# frozen_string_literal: true

require "fileutils"
require "redis_client"
require "tmpdir"

module Fleet
  # A private Redis server in a temporary directory, with a socket of its own and nothing on disk.
  class PrivateRedis
    LIMIT = 30 # seconds until it responds

    def initialize
      @directory = Dir.mktmpdir("tasker-redis")
    end

    # @return [self]
    def start
      @program = Program.new("redis-server", "--port", "0", "--unixsocket", socket, "--dir", @directory, "--save", "",
                             directory: @directory, out: File::NULL)
      await
      self
    rescue Errno::ENOENT
      raise "Redis was not found: install it with `apt-get install redis-server` (Debian) or `brew install redis` " \
            "(macOS)"
    end

    # @return [String] for Sidekiq's REDIS_URL
    def url = "unix://#{socket}"

    # Kills the server, runs the block, and starts an empty server.
    def down
      @program.kill
      yield
    ensure
      start
    end

    def pause = @program.signal("STOP")
    def resume = @program.signal("CONT")

    def stop
      @program&.kill
      FileUtils.rm_rf(@directory)
    end

    # @param command [Array<String>] of Redis
    # @return [Object] its reply
    def call(*command)
      client = RedisClient.new(path: socket)
      client.call(*command)
    ensure
      client&.close
    end

    private

    def socket = "#{@directory}/redis.sock"

    def await
      deadline = Fleet.now + LIMIT
      begin
        call("PING")
      rescue RedisClient::Error
        raise if Fleet.now > deadline

        sleep 0.01
        retry
      end
    end
  end
end
