# frozen_string_literal: true

# The application of bench/dispatch: a no-op job, and workflows whose steps do nothing.
#
#   ruby bench/dispatch_application.rb jobs NUMBER FILE    enqueues no-op jobs, all at once, and prints when it began
#   ruby bench/dispatch_application.rb Single|Wide TASKS   creates tasks

require "rails"
require "active_record/railtie"
require "action_controller/railtie"
require "tasker_core"
require_relative "fleet/adapter"

class DispatchBench < Rails::Application
  config.root = __dir__
  config.eager_load = false
  config.secret_key_base = "not a secret: the benchmark serves nothing"
  # GoodJob would add a logger of its own to the one of another output.
  config.logger = ActiveSupport::Logger.new($stdout)
  config.log_level = :warn
  Fleet::Adapter.configure(config)
  Sidekiq.default_configuration.logger.level = Logger::WARN if defined?(Sidekiq)
end

DispatchBench.initialize!

# Counts its runs in this process. The last one of a measurement writes the time to a file.
class NoopJob < ActiveJob::Base
  RUNS = Hash.new(0)
  LOCK = Mutex.new

  def perform(number, file)
    return unless LOCK.synchronize { RUNS[file] += 1 } == number

    File.write("#{file}.part", Process.clock_gettime(Process::CLOCK_MONOTONIC))
    File.rename("#{file}.part", file)
  end
end

class Noop < TaskerCore::StepHandler
  def call(_context) = nil
end

class Single < TaskerCore::Workflow
  dispatch :active_job

  step :only, handler: Noop
end

# One root, three branches, one join.
class Wide < TaskerCore::Workflow
  dispatch :active_job

  step :root, handler: Noop
  3.times { |number| step "branch_#{number}", depends_on: :root, handler: Noop }
  step :join, depends_on: Array.new(3) { |number| "branch_#{number}" }, handler: Noop
end

if $PROGRAM_NAME == __FILE__
  what, number, file = ARGV
  number = Integer(number)
  if what == "jobs"
    began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    ActiveJob.perform_all_later(Array.new(number) { NoopJob.new(number, file) })
    puts JSON.generate(began: began)
  else
    Array.new(number) { {} }.each_slice(500) { |inputs| Object.const_get(what).create_all!(inputs) }
  end
end
