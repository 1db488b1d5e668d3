# frozen_string_literal: true

require_relative "../../bench/fleet"
require_relative "workers"

# A real queue of Active Job for tests, with `tasker work` as dispatcher; both run the dummy application.
module Queues
  # @yieldparam queue [Fleet::Backend] whose queue workers do not run yet
  def with_queue(adapter, start_timeout: "60s", threads: 2, &block)
    settings = { "RAILS_ENV" => "test", "TASKER_CORE__DISPATCH__START_TIMEOUT" => start_timeout }
    Fleet.run(adapter, database: ENV.fetch("DATABASE_URL"), boot: "#{root}/spec/dummy/config/environment.rb",
                       threads: threads, variables: settings) do |queue|
      block.call(queue)
    rescue StandardError, RSpec::Expectations::ExpectationNotMetError
      warn queue.log
      raise
    end
  end

  # Runs `tasker work`, which enqueues the jobs, for the duration of the block.
  # @yieldparam dispatcher [Fleet::Program]
  def with_dispatcher(queue)
    dispatcher = queue.start(RbConfig.ruby, "-I#{root}/lib", "#{root}/exe/tasker", "work", "--threads", "2",
                             "--require", "#{root}/spec/dummy/config/environment.rb")
    yield dispatcher
  ensure
    dispatcher.stop(30) if dispatcher&.pid
  end
end

RSpec.configure { |config| config.include Queues }

# What the bridge promises with any adapter.
RSpec.shared_examples "a queue of Active Job" do |adapter|
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }
  before { load "#{root}/spec/dummy/queued/slow_job.rb" }
  after { Object.send(:remove_const, :SlowJob) }

  # @return [Array<Array>] attempt and process of each start
  def starts = Dir["#{@directory}/started-*"].map { |path| path[/started-(.*)-/, 1].split("-").map(&:to_i) }

  def go = File.write("#{@directory}/go", "")

  def create = SlowJob.create!(directory: @directory)

  def outcomes(task) = task.attempts.order(:token).map { |attempt| [attempt.attempt, attempt.outcome] }

  def enqueued?(queue)
    queue.unfinished == 1 && count("tasker_claimed_steps where dispatch = 'enqueued'") == 1
  end

  def expect_completed(task, first_step)
    expect(task.wait(timeout: 120).state).to eq "complete"
    expect(outcomes(task)).to eq [*first_step, [1, "completed"]]
  end

  it "runs the steps in its workers" do
    with_queue(adapter) do |queue|
      with_dispatcher(queue.ensure_workers) do
        go
        task = create
        expect_completed(task, [[1, "completed"]])
        expect(queue.pids).to include(*task.results.values.map { |result| result["pid"] }.uniq)
      end
    end
  end

  it "runs a step again whose worker was killed" do
    with_queue(adapter) do |queue|
      with_dispatcher(queue.ensure_workers) do
        task = create
        eventually { starts.any? }
        queue.kill_workers
        go
        queue.ensure_workers
        expect_completed(task, [[1, "lost"], [2, "completed"]])
      end
    end
  end

  it "enqueues a lost job again without spending an attempt" do
    with_queue(adapter, start_timeout: "1s") do |queue|
      with_dispatcher(queue) do
        task = create
        eventually { enqueued?(queue) }
        queue.lose_jobs
        eventually { enqueued?(queue) }
        go
        queue.ensure_workers
        expect(task.wait(timeout: 120).results["only"]["attempt"]).to eq 1
        expect(starts.size).to eq 1
      end
    end
  end

  it "runs a step once if the queue runs its job twice" do
    with_queue(adapter) do |queue|
      with_dispatcher(queue) do
        task = create
        eventually { enqueued?(queue) }
        queue.duplicate_jobs
        expect(queue.unfinished).to eq 2
        queue.ensure_workers
        eventually { starts.any? && queue.unfinished == 1 }
        go
        expect_completed(task, [[1, "completed"]])
        expect(starts.size).to eq 1
      end
    end
  end

  it "runs a step once after a pause longer than dispatch.start_timeout" do
    with_queue(adapter, start_timeout: "1s") do |queue|
      with_dispatcher(queue.ensure_workers) do
        go
        create.wait(timeout: 120)
        queue.pause_workers
        task = create
        eventually { queue.unfinished > 1 }
        queue.resume_workers
        expect(task.wait(timeout: 120).results["only"]["attempt"]).to eq 1
        eventually { queue.unfinished.zero? }
        expect(starts.size).to eq 2
      end
    end
  end

  it "loses no step whose dispatcher dies before it enqueues the job" do
    with_queue(adapter) do |queue|
      task = create
      queue.stalled do
        with_dispatcher(queue) do |dispatcher|
          eventually { count("tasker_claimed_steps").positive? }
          dispatcher.kill
        end
      end
      go
      with_dispatcher(queue.ensure_workers) { expect(task.wait(timeout: 120).results["only"]["attempt"]).to eq 1 }
      expect(starts.size).to eq 1
    end
  end

  it "keeps steps while the queue is away" do
    with_queue(adapter) do |queue|
      with_dispatcher(queue) do
        task = nil
        queue.unavailable do
          task = create
          eventually { count("tasker_waiting_steps where reason = 'not_enqueued'").positive? }
        end
        go
        queue.ensure_workers
        expect(task.wait(timeout: 120).results["only"]["attempt"]).to eq 1
      end
    end
  end

  def count(rows) = TaskerCore::ApplicationRecord.connection.select_value("select count(*) from #{rows}")
end
