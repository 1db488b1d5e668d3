# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker subscriptions`: lists the durable subscriptions; `skip` skips an event that fails, `drop` ends a
    # subscription. The list exits with 1 if a subscription fails.
    #
    # @api private
    class Subscriptions < Command
      include Application

      ARGUMENTS = %w[[ACTION] [NAME]].freeze
      ACTIONS = { "skip" => :skip, "drop" => :drop }.freeze

      def self.outlasts_reader? = true

      def self.usage
        "tasker subscriptions [options]\n       tasker subscriptions skip NAME --reason TEXT\n       " \
          "tasker subscriptions drop NAME"
      end

      private

      def perform(action = nil, name = nil)
        if @reason && action != "skip"
          raise UsageError, "subscriptions: --reason is for skip: `tasker subscriptions skip NAME --reason TEXT`"
        end
        return list unless action

        method = ACTIONS.fetch(action) do
          raise UsageError, "subscriptions: #{action}: unknown action: use #{ACTIONS.keys.join(' or ')}"
        end
        raise UsageError, "subscriptions #{action}: name the subscription" unless name

        send(method, name)
        0
      end

      def options(parser)
        parser.on("--reason TEXT", "reason to record with the event's task (required by skip)") { @reason = _1 }
        super
      end

      def list
        subscriptions = Postgres::Rows.read("select * from #{Postgres::Functions::SCHEMA}.subscription_health()")
        @json ? print_json(subscriptions: subscriptions.map { |row| with_times(row) }) : print(subscriptions)
        subscriptions.any? { |subscription| subscription["failures"].positive? } ? 1 : 0
      end

      # With times as the API writes them.
      def with_times(row) = row.transform_values { |value| value.is_a?(Time) ? value.utc.iso8601(6) : value }

      def print(subscriptions)
        return @out.puts "there are no durable subscriptions" if subscriptions.empty?

        subscriptions.each do |subscription|
          name, failures, failure = subscription.values_at("name", "failures", "last_error")
          events = subscription["events"].join(", ")
          @out.puts Support::VisibleText.line("#{name}: #{waiting(subscription)} (#{events})")
          next unless failure

          skip = for_shard("`tasker subscriptions skip #{Support::VisibleText.line(name)} --reason TEXT`")
          @out.puts Support::VisibleText.line("  the next event has failed #{counted(failures, 'time')}, with " \
                                              "#{failure['class']}: #{failure['message']}"),
                    "  the next attempt is at #{subscription['retry_at']}; skip it with #{skip}"
        end
      end

      def waiting(subscription)
        return "no events waiting" if subscription["waiting"].zero?

        "#{counted(subscription['waiting'], 'event')} waiting, the oldest for #{subscription['oldest_seconds'].round} s"
      end

      def skip(name)
        event = Postgres::Functions.run(:skip_event, name, @reason, operator)
        return print_json(skipped: event) if @json
        return @out.puts("nothing to skip: the failed event of #{name} has been removed") unless event

        @out.puts "skipped: #{event['name']} #{visible_json(event['payload'])}"
      end

      def drop(name)
        left = Postgres::Functions.run(:drop_subscription, name)
        return print_json(dropped: name, undelivered: left) if @json

        @out.puts "dropped: #{Support::VisibleText.line(name)}, with #{counted(left, 'undelivered event')}"
      end
    end
  end
end
