# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether the events of durable subscriptions are delivered.
    #
    # @api private
    class Subscriptions < Check
      LONG = 60
      private_constant :LONG

      private

      def issues = subscriptions.filter_map { |subscription| failing(subscription) || undelivered(subscription) }

      def subscriptions = @subscriptions ||= rows("select * from #{Postgres::Functions::SCHEMA}.subscription_health()")

      def failing(subscription)
        return if subscription["failures"].zero?

        name, failures, failure = subscription.values_at("name", "failures", "last_error")
        cause = ", with #{failure(failure)}" if failure
        error("the next event of #{name} has failed #{counted(failures, 'time')}#{cause}",
              "fix the subscriber, or skip the event: `tasker subscriptions skip #{name} --reason TEXT`")
      end

      def undelivered(subscription)
        name, waiting, age = subscription.values_at("name", "waiting", "oldest_seconds")
        return unless waiting.positive? && age > LONG

        events = "#{counted(waiting, 'event')} of #{name} #{waiting == 1 ? 'waits' : 'wait'}"
        warning("#{events}, the oldest for #{span(age)}",
                Subscriber.durable_subscribers.key?(name) ? deliver : drop(name))
      end

      def deliver
        "start a worker with `subscriptions.deliver: true`; if one is running, look for a long transaction in " \
          "pg_stat_activity (backend_xid)"
      end

      def drop(name)
        "deploy workers that define its subscriber; if it has been removed, `tasker subscriptions drop #{name}`"
      end

      def ok_message
        return "there are no durable subscriptions" if subscriptions.empty?

        "#{counted(subscriptions.size, 'durable subscription')}, none failing"
      end
    end
  end
end
