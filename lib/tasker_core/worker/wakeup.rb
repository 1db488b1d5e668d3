# frozen_string_literal: true

module TaskerCore
  class Worker
    # Notifies idle workers, after a commit, that queues have ready steps.
    #
    # Notices are debounced: a queue gets the first one at once, and no further one within the debounce time. No step is
    # missed: a worker that was woken polls again when that time has passed, and a notice that reached no idle worker
    # does not count.
    #
    # @api private
    module Wakeup
      SENT = Concurrent::Map.new
      private_constant :SENT

      module_function

      # @param queues [Array<String>] may contain duplicates
      def send_for(queues)
        shard = ApplicationRecord.current_shard
        due = queues.uniq.select { |queue| due?([shard, queue]) }
        return if due.empty?

        notices = Postgres::Functions.run(:wake_workers, due)
        due.each { |queue| SENT.delete([shard, queue]) } if notices.zero?
      rescue DatabaseError, ActiveRecord::ActiveRecordError => e
        # The tasks are committed: their creation must not seem to have failed.
        Instrumentation.instrument("notify_failed", error: e)
      end

      def due?(key)
        now = Support::MonotonicClock.now
        due = false
        SENT.compute(key) do |sent|
          due = sent.nil? || now - sent >= TaskerCore.config[:discovery, :notify_debounce]
          due ? now : sent
        end
        due
      end
      private_class_method :due?
    end
  end
end
