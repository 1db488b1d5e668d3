# frozen_string_literal: true

module Chaos
  # Creates tasks as an application does, in its own transactions, some of which roll back. Records their outcomes.
  class Load
    BACKLOG = 400

    # @return [Array<String>] UUIDs of tasks whose commit was confirmed; tasks whose transaction was rolled back
    attr_reader :confirmed, :rolled_back
    # @return [Integer] creations that failed or got no response
    attr_reader :in_doubt

    # @param backlog [Integer] the number of unfinished tasks above which creation pauses
    def initialize(url, random, backlog: BACKLOG)
      @url = url
      @random = random
      @backlog = backlog
      @confirmed = []
      @rolled_back = []
      @in_doubt = 0
    end

    # Runs until it is stopped.
    def start
      @thread = Thread.new { create until @stopping }
      self
    end

    def stop
      @stopping = true
      @thread.join
    end

    private

    def create
      sleep 0.03
      sleep 0.2 while !@stopping && unended > @backlog
      ids = []
      committed = transaction(ids)
      (committed ? @confirmed : @rolled_back).concat(ids)
    rescue ActiveRecord::ActiveRecordError, TaskerCore::Error, PG::Error
      @in_doubt += 1
      reconnect
    end

    # @return [Boolean] whether it was committed
    def transaction(ids)
      commit = @random.rand > 0.1
      ActiveRecord::Base.transaction do
        tasks = creator.create_all!(Array.new(@random.rand(1..5)) { { n: @random.rand(1000) } })
        created = tasks.reject(&:existing?)
        ids.concat(created.map(&:uuid))
        created.each do |task|
          ActiveRecord::Base.connection.execute("insert into chaos_created values ('#{task.uuid}')")
        end
        raise ActiveRecord::Rollback unless commit
      end
      commit
    end

    def creator
      options = { priority: @random.rand(-2..2) }
      options[:wait_until] = Time.now + @random.rand(3.0) if @random.rand < 0.1
      WORKFLOWS[@random.rand(WORKFLOWS.size)].set(**options)
    end

    def unended
      ActiveRecord::Base.connection.select_value("select count(*) from tasker_tasks where state = 'pending'")
    end

    def reconnect
      ActiveRecord::Base.connection_handler.clear_all_connections!(:all)
      sleep 0.2
    end
  end
end
