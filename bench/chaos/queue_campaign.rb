# frozen_string_literal: true

require_relative "../fleet"

module Chaos
  # The crew with a queue's workers, which faults of workers also strike.
  class QueueCrew < Crew
    def initialize(queue, *arguments, **options)
      @queue = queue
      super(*arguments, **options)
    end

    def ensure_all
      @queue.ensure_workers
      super
    end

    def workers(of = nil) = of ? super : super + @queue.pids

    # First the queue's workers, whose rows the others remove if they were killed.
    def stop
      unstoppable = @queue.stop_workers.map { |pid| "#{@queue.name} #{pid}" }
      unstoppable + super
    end

    # Without the queue's own errors.
    def log = super + @queue.log.lines.grep(/tasker_core|panicked|\[BUG\]/).join
  end

  # Faults of a queue, in addition to those of workers and database.
  class QueueFaults < Faults
    OF_QUEUES = { drain_queue_worker: 4, lose_jobs: 4, duplicate_jobs: 6, take_queue_away: 4, stall_queue: 4 }.freeze

    def initialize(queue, **options)
      super(**options)
      @queue = queue
      @kinds = @kinds.merge(OF_QUEUES)
    end

    def drain_queue_worker
      worker = pick(@queue.workers.select(&:pid)) or return
      @disturbances.note(:drain, pids: @queue.pids)
      @crew.signal("TERM", worker.pid)
    end

    # Attempts that run are not affected.
    def lose_jobs = @queue.lose_jobs

    def duplicate_jobs = @queue.duplicate_jobs

    def take_queue_away
      @queue.unavailable { sleep @random.rand(0.5..3.0) }
      true
    end

    def stall_queue
      @queue.stalled { sleep @random.rand(0.5..3.0) }
      true
    end
  end

  # The campaign with --dispatch: workers dispatch most steps to the workers of a queue.
  class QueueCampaign < Campaign
    # @param dispatch [String] the adapter of Active Job
    # @param options [Hash] minutes, seed and fail_overs, see {Campaign#initialize}
    def initialize(dispatch:, **options)
      raise ArgumentError.new("--dispatch excludes --hosts and --pooler") if options[:hosts] || options[:pooler]

      super(**options)
      @adapter = dispatch
    end

    private

    def live(servers, directory)
      Chaos.dispatch_steps
      Fleet.run(@adapter, database: @url, boot: "#{__dir__}/application.rb", queues: %w[default other], workers: 2,
                          threads: 8, variables: { "CHAOS_DIRECTORY" => directory }) do |queue|
        @queue = queue
        ENV.update(queue.variables.except("DATABASE_URL"))
        super
      end
    end

    # With those of the queue's workers.
    def connections = super * 2

    # Queues take more time for a job than workers for a step.
    def backlog = 60

    def assemble(...) = QueueCrew.new(@queue, ...)

    def faults(...) = QueueFaults.new(@queue, ...)
  end
end
