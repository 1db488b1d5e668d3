# frozen_string_literal: true

require "tmpdir"

require_relative "fleet/program"
require_relative "fleet/private_redis"
require_relative "fleet/backend"
require_relative "fleet/database_backend"
require_relative "fleet/sidekiq"
require_relative "fleet/solid_queue"
require_relative "fleet/good_job"

# Active Job's queues with their real programs, for the tests, the benchmarks and the demo.
module Fleet
  BACKENDS = [Sidekiq, SolidQueue, GoodJob].to_h { |backend| [backend::NAME, backend] }.freeze

  module_function

  # Creates a queue's storage for the duration of the block; `ensure_workers` starts its queue workers.
  # @param adapter [String] a key of BACKENDS
  # @param options [Hash] see {Backend#initialize}
  # @yieldparam backend [Backend]
  def run(adapter, **options)
    Dir.mktmpdir("tasker-fleet") do |directory|
      backend = BACKENDS.fetch(adapter).new(directory, **options)
      yield backend.prepare
    ensure
      backend&.stop
    end
  end

  def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
end
