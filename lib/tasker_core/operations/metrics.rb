# frozen_string_literal: true

module TaskerCore
  module Operations
    # {Health} in Prometheus's text format 0.0.4.
    #
    # @api private
    class Metrics
      MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

      # Help texts of the numbers in {Health#stats}.
      GAUGES = {
        "ready_steps" => "Steps that may be claimed, at most #{Health::CAP}.",
        "oldest_ready_seconds" => "Age of the oldest ready step among those counted; 0 if none is ready.",
        "claimed_steps" => "Steps that processes have claimed, at most #{Health::CAP}.",
        "overdue_leases" => "Claims whose deadline has passed.",
        "waiting_steps" => "Steps that wait for a retry or for their start time, at most #{Health::CAP}.",
        "overdue_waiting_steps" => "Waiting steps that are due.",
        "unreadable_steps" => "Steps that are set aside because the database cannot read them.",
        "processes" => "Registered worker processes.",
        "silent_processes" => "Worker processes whose heartbeat is overdue.",
        "idle_processes" => "Live worker processes without a claimed step."
      }.freeze

      SUBSCRIPTIONS = {
        "waiting" => ["subscription_waiting_events", "Events waiting for a durable subscription, at most #{Health::CAP}."],
        "oldest_seconds" => ["subscription_oldest_seconds", "Age of the oldest waiting event; 0 if none is waiting."],
        "failures" => ["subscription_failures", "Failed deliveries of the next event."]
      }.freeze
      private_constant :GAUGES, :SUBSCRIPTIONS

      # @param health [Health]
      def initialize(health = Health.new)
        @health = health
      end

      # @return [String]
      def to_s = [info, *gauges, queues, *subscriptions].join

      private

      def info = gauge("info", "The version of the gem.", [[{ version: VERSION }, 1]])

      def gauges
        values = @health.stats
        GAUGES.map { |name, help| gauge(name, help, [[{}, values.fetch(name)]]) }
      end

      def queues
        gauge("queue_ready_steps", "Ready steps by queue, among at most #{Health::CAP} counted.",
              @health.queues.map { |queue, steps| [{ queue: queue }, steps] })
      end

      def subscriptions
        all = @health.subscriptions
        SUBSCRIPTIONS.map do |column, (name, help)|
          gauge(name, help, all.map { |one| [{ subscription: one.fetch("name") }, one.fetch(column)] })
        end
      end

      def gauge(name, help, samples)
        name = "tasker_#{name}"
        lines = samples.map { |labels, value| "#{name}#{labelled(labels)} #{value || 0}\n" }
        ["# HELP #{name} #{help}\n", "# TYPE #{name} gauge\n", *lines].join
      end

      def labelled(labels)
        return "" if labels.empty?

        "{#{labels.map { |name, value| "#{name}=\"#{escaped(value)}\"" }.join(',')}}"
      end

      def escaped(value)
        Support::VisibleText.lines(value).gsub(/[\\"\n]/, "\\" => "\\\\", '"' => '\\"', "\n" => "\\n")
      end
    end
  end
end
