# frozen_string_literal: true

require "fileutils"

module Fleet
  # A queue of Active Job with its storage and its queue workers, which run the jobs of an application.
  class Backend
    STOP_LIMIT = 30 # seconds
    ROOT = File.expand_path("../..", __dir__)

    # @return [Array<Program>] the queue workers
    attr_reader :workers

    # @param directory [String] for files of the queue workers
    # @param database [String] the application's URL
    # @param boot [String] path of the file that starts the application, which calls {Adapter.configure}
    # @param queues [Array<String>] names
    # @param workers [Integer]
    # @param threads [Integer] of each worker
    # @param variables [Hash{String => String}] of every process that enqueues or runs jobs
    def initialize(directory, database:, boot:, queues: ["default"], workers: 1, threads: 5, variables: {})
      @directory = directory
      @database = database
      @boot = File.expand_path(boot)
      @queues = queues
      @threads = threads
      @variables = variables
      @number = workers
      @workers = []
      write_application
    end

    # @return [Hash{String => String}] environment of every process that enqueues or runs jobs
    def variables
      # Solid Queue requires connections for more threads than those that run jobs.
      pool = "#{@database.include?('?') ? '&' : '?'}pool=#{@threads + 5}"
      { "RAILS_ENV" => "production", "QUEUE_ADAPTER" => name, "DATABASE_URL" => @database + pool,
        "BUNDLE_GEMFILE" => "#{ROOT}/Gemfile", **storage_variables, **@variables }
    end

    # @return [String] of the adapter
    def name = self.class::NAME

    # Creates the storage.
    # @return [self]
    def prepare = raise(NotImplementedError)

    # @return [String] output of the queue workers and of other programs
    def log = File.exist?(log_path) ? File.read(log_path) : ""

    # @return [Integer] jobs that wait or run
    def unfinished = raise(NotImplementedError)

    # Removes every job.
    def lose_jobs = raise(NotImplementedError)

    # Adds a copy of every waiting job, so that the queue runs it twice.
    def duplicate_jobs = raise(NotImplementedError)

    # Makes the storage unavailable for the duration of the block.
    def unavailable = raise(NotImplementedError)

    # Blocks the enqueueing of jobs for the duration of the block.
    def stalled = raise(NotImplementedError)

    # Starts the queue workers that do not run.
    # @return [self]
    def ensure_workers
      @workers.select!(&:running?)
      @workers << start(*command, chdir: @directory) while @workers.size < @number
      self
    end

    # Starts another program with the same environment and log.
    # @param options [Hash] of `spawn`
    # @return [Program]
    def start(*command, **options)
      Program.new(variables, *command, directory: @directory, %i[out err] => [log_path, "a"], **options)
    end

    # @return [Array<Integer>] processes of the queue workers, children included
    def pids
      leaders = @workers.map(&:pid)
      processes = IO.popen(%w[ps -A -o pid=,pgid=], &:readlines).map { |line| line.split.map(&:to_i) }
      processes.filter_map { |pid, leader| pid if leaders.include?(leader) }
    end

    # Kills every process of the queue workers with -9.
    def kill_workers = @workers.each(&:kill).clear
    def pause_workers = @workers.each { |worker| worker.signal("STOP") }
    def resume_workers = @workers.each { |worker| worker.signal("CONT") }

    # Stops the queue workers in order.
    # @return [Array<Integer>] those that had to be killed
    def stop_workers
      late = @workers.each { |worker| worker.signal("CONT") }.map { |worker| Thread.new { worker.stop(STOP_LIMIT) } }
      late = late.map(&:value)
      @workers.clear
      late.compact
    end

    # Stops the queue workers and removes the storage.
    def stop = stop_workers

    private

    def log_path = "#{@directory}/log"

    def storage_variables = {}

    # The files by which the adapters' commands find a Rails application.
    def write_application
      FileUtils.mkdir_p("#{@directory}/config")
      File.write("#{@directory}/config/application.rb", "require #{@boot.inspect}\n")
      File.write("#{@directory}/config/environment.rb", "require #{@boot.inspect}\n")
    end

    def program(name) = Gem.bin_path(self.class::NAME, name)

    def ruby(*arguments) = [RbConfig.ruby, "-I#{ROOT}/lib", "-rbundler/setup", *arguments]
  end
end
