# frozen_string_literal: true

module TaskerCore
  class Worker
    # Tells idle workers, after the commit, that a queue has something to claim.
    #
    # Debounced at the leading edge: a notice that follows another within the debounce time is left out. None is
    # missed by that: a worker that was woken looks once more when that time has passed; and a notice that found nobody
    # idle does not count.
    #
    # @api private
    module Wakeup
      SENT = Concurrent::Map.new
      private_constant :SENT

      module_function

      # @param queues [Array<String>]
      def send_for(queues)
        due = queues.uniq.select { |queue| due?(queue) }
        return if due.empty?

        notices = ApplicationRecord.on_connection { |connection| Postgres::Functions.call(connection, :wake_workers, due) }
        due.each { |queue| SENT.delete(queue) } if notices.zero?
      rescue DatabaseError, ActiveRecord::ActiveRecordError => e
        # The tasks are committed: their creation must not look as if it had failed.
        Instrumentation.instrument("notify_failed", error: e)
      end

      def due?(queue)
        now = Support::MonotonicClock.now
        due = false
        SENT.compute(queue) do |sent|
          due = sent.nil? || now - sent >= TaskerCore.config[:discovery, :notify_debounce]
          due ? now : sent
        end
        due
      end
      private_class_method :due?
    end
  end
end
