# frozen_string_literal: true

module Fleet
  # Sidekiq with a private Redis server. A job that runs when its worker is killed is lost.
  class Sidekiq < Backend
    NAME = "sidekiq"

    # @return [PrivateRedis]
    attr_reader :redis

    def prepare
      @redis = PrivateRedis.new.start
      self
    end

    def unfinished
      waiting = @queues.sum { |queue| @redis.call("LLEN", "queue:#{queue}") }
      running = @redis.call("SMEMBERS", "processes").sum { |process| @redis.call("HLEN", "#{process}:work") }
      waiting + running
    end

    def lose_jobs = @redis.call("FLUSHALL")

    def duplicate_jobs
      @queues.map { |queue| "queue:#{queue}" }.each do |queue|
        jobs = @redis.call("LRANGE", queue, 0, -1)
        @redis.call("LPUSH", queue, *jobs) if jobs.any?
      end
    end

    # Redis loses its jobs.
    def unavailable(&block) = @redis.down(&block)

    def stalled
      @redis.pause
      yield
    ensure
      @redis.resume
    end

    def stop
      super
      @redis&.stop
    end

    private

    def storage_variables = { "REDIS_URL" => @redis.url }

    def command
      queues = @queues.flat_map { |queue| ["-q", queue] }
      ruby(program("sidekiq"), "-r", @directory, "-c", @threads.to_s, "-t", "5", *queues)
    end
  end
end
