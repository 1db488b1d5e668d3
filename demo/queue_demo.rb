# frozen_string_literal: true

require_relative "../bench/fleet"

# The demo with --dispatch: `tasker work` enqueues the steps as jobs, and the queue's own workers run them. One of these
# is killed.
class QueueDemo < Demo
  def initialize(url, adapter)
    ENV["QUEUE_ADAPTER"] = adapter
    super(url)
    @url = url
  end

  private

  def with_workers
    Fleet.run(ENV.fetch("QUEUE_ADAPTER"), database: @url, boot: APPLICATION, workers: 2) do |queue|
      @queue = queue.ensure_workers
      super
    rescue StandardError
      warn queue.log
      raise
    end
  end

  def worker_variables = @queue.variables

  # Also replaces the killed worker.
  def count_ended
    @queue.ensure_workers
    super
  end

  def victims = "and p.pid in (#{[0, *@queue.pids].join(', ')})"

  def worker = "#{@queue.name} worker"
end
