# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker subscriptions`: how the durable subscriptions stand; `skip` passes over an event that fails, `drop` ends one.
    # Listing them ends with 1 when one fails.
    class Subscriptions
      include Application

      ACTIONS = { "skip" => :skip, "drop" => :drop }.freeze

      def initialize(out:, **)
        @out = out
      end

      def run(arguments)
        action, name, *rest = parser.parse(arguments)
        raise UsageError, "subscriptions: #{rest.first}: unexpected argument" if rest.any?

        load_application
        verify_database
        return list unless action

        method = ACTIONS.fetch(action) do
          raise UsageError, "subscriptions: #{action}: must be #{ACTIONS.keys.join(' or ')}, or nothing"
        end
        raise UsageError, "subscriptions #{action}: name the subscription" unless name

        send(method, name)
        0
      end

      private

      def parser
        OptionParser.new("Usage: tasker subscriptions [options]\n       tasker subscriptions skip NAME --reason TEXT\n       " \
                         "tasker subscriptions drop NAME") do |options|
          options.on("--reason TEXT", "why an event is skipped, for those who look at its task later") { @reason = _1 }
          options.on("--json", "print one JSON object") { @json = true }
          application_option(options)
        end
      end

      def list
        subscriptions = ApplicationRecord.on_connection do |connection|
          connection.select_all("select * from #{Functions::SCHEMA}.subscription_health()").to_a.map { |row| told(row) }
        end
        @json ? @out.puts(JSON.generate(subscriptions: subscriptions)) : print(subscriptions)
        subscriptions.any? { |subscription| subscription["failures"].positive? } ? 1 : 0
      end

      def told(row)
        row.merge("events" => PG::TextDecoder::Array.new.decode(row["events"]),
                  "last_error" => row["last_error"] && JSON.parse(row["last_error"]))
      end

      def print(subscriptions)
        return @out.puts "there are no durable subscriptions" if subscriptions.empty?

        subscriptions.each do |subscription|
          name, failures, failure = subscription.values_at("name", "failures", "last_error")
          @out.puts "#{name}: #{waiting(subscription)} (#{subscription['events'].join(', ')})"
          next unless failure

          @out.puts "  the next event has failed #{counted(failures, 'time')}, with #{failure['class']}: #{failure['message']}",
                    "  it is tried again at #{subscription['retry_at']}; pass over it with " \
                    "`tasker subscriptions skip #{name} --reason TEXT`"
        end
      end

      def waiting(subscription)
        return "nothing waits" if subscription["waiting"].zero?

        "#{subscription['waiting']} wait, the oldest for #{subscription['oldest_seconds'].round} s"
      end

      def skip(name)
        event = call(:skip_event, name, @reason, operator)
        @out.puts @json ? JSON.generate(skipped: event) : "skipped: #{event['name']} #{JSON.generate(event['payload'])}"
      end

      def drop(name)
        left = call(:drop_subscription, name)
        return @out.puts JSON.generate(dropped: name, undelivered: left) if @json

        @out.puts "dropped: #{name}, with #{counted(left, 'event')} that it was not given"
      end

      def counted(count, noun) = "#{count} #{noun.pluralize(count)}"

      def call(...) = ApplicationRecord.on_connection { |connection| Functions.call(connection, ...) }
    end
  end
end
