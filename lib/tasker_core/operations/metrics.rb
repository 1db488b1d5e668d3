# frozen_string_literal: true

module TaskerCore
  module Operations
    # {Health} in Prometheus's text format 0.0.4. docs/monitoring.md describes each metric.
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

      QUEUES = {
        "steps" => ["queue_ready_steps", "Ready steps of a queue, at most #{Health::CAP}."],
        "oldest_seconds" => ["queue_oldest_ready_seconds",
                             "Age of the oldest ready step of a queue, among its #{Health::CAP} most urgent."]
      }.freeze

      # Columns of task_counts by the value of a label.
      STATES = { "pending" => "in_pending", "complete" => "in_complete", "error" => "in_error",
                 "cancelled" => "in_cancelled", "resolved_manually" => "in_resolved" }.freeze
      ENDINGS = { "complete" => "completed", "error" => "failed", "cancelled" => "cancelled",
                  "resolved_manually" => "resolved" }.freeze
      OUTCOMES = %w[completed failed released lost].to_h { |outcome| [outcome, "attempts_#{outcome}"] }.freeze

      # Totals of process_stats.
      TOTALS = {
        "claimed" => ["claimed_steps_total", "Steps that processes have claimed."],
        "released" => ["released_claims_total", "Claims that processes have returned without an attempt."],
        "stale" => ["stale_outcomes_total", "Outcomes that were rejected because their lease had ended."]
      }.freeze
      HISTOGRAMS = {
        "claim" => ["claim_seconds", "Duration of statements that claim steps."],
        "finish" => ["finish_seconds", "Duration of statements that store outcomes."],
        "run" => ["run_seconds", "Duration of attempts in their handlers."]
      }.freeze
      private_constant :GAUGES, :SUBSCRIPTIONS, :QUEUES, :STATES, :ENDINGS, :OUTCOMES, :TOTALS, :HISTOGRAMS

      # @param health [Health]
      def initialize(health = Health.new)
        @health = health
      end

      # @return [String]
      def to_s
        [info, *gauges, *labelled(QUEUES, @health.queue_stats, "queue", "queue"),
         *labelled(SUBSCRIPTIONS, @health.subscriptions, "subscription", "name"), *tasks, *processes].join
      end

      private

      def info = metric("info", "gauge", "The version of the gem.", [[{ version: VERSION }, 1]])

      def gauges
        values = @health.stats
        GAUGES.map { |name, help| metric(name, "gauge", help, [[{}, values.fetch(name)]]) }
      end

      # Gauges with a sample for each row.
      def labelled(columns, rows, label, key)
        columns.map do |column, (name, help)|
          metric(name, "gauge", help, rows.map { |row| [{ label => row.fetch(key) }, row.fetch(column)] })
        end
      end

      def tasks
        rows = @health.task_counts
        [metric("tasks", "gauge", "Stored tasks by state.", samples(rows, "state", STATES)),
         metric("tasks_created_total", "counter", "Tasks created.",
                rows.map { |row| [workflow(row), row.fetch("created")] }),
         metric("tasks_ended_total", "counter", "Ends of tasks by state; a task that is retried ends again.",
                samples(rows, "state", ENDINGS)),
         metric("attempts_total", "counter", "Ended attempts of steps by outcome.", samples(rows, "outcome", OUTCOMES))]
      end

      def samples(rows, label, columns)
        rows.flat_map do |row|
          columns.map { |value, column| [workflow(row).merge(label => value), row.fetch(column)] }
        end
      end

      # Not `namespace`, a label that Kubernetes gives to every target.
      def workflow(row) = { "workflow_namespace" => row.fetch("namespace"), "workflow" => row.fetch("workflow") }

      def processes
        stats = @health.process_stats
        totals = stats.fetch("totals")
        [metric("threads", "gauge", "Threads of live worker processes.", [[{}, stats.fetch("threads")]]),
         metric("broken_tasks", "gauge", "Broken tasks that the last audit of a process found.",
                [[{}, stats.fetch("broken")]]),
         *TOTALS.map { |key, (name, help)| metric(name, "counter", help, [[{}, totals.fetch(key, 0)]]) },
         *HISTOGRAMS.map { |key, (name, help)| histogram(name, help, key, totals) }]
      end

      def histogram(name, help, key, totals)
        count = 0
        buckets = BUCKETS.map do |bound|
          count += totals.fetch("#{key}_ms_#{bound}", 0)
          ["_bucket", { le: bound == "inf" ? "+Inf" : bound / 1000.0 }, count]
        end
        parts = [*buckets, ["_sum", {}, totals.fetch("#{key}_us", 0) / 1e6], ["_count", {}, count]]
        lines = parts.map { |part, labels, value| sample("#{name}#{part}", labels, value) }
        [*head(name, "histogram", help), *lines].join
      end

      # Upper bounds in milliseconds, as in ext/orchestrator/src/measurements.rs.
      BUCKETS = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000, 60_000, "inf"].freeze
      private_constant :BUCKETS

      def metric(name, type, help, samples)
        [*head(name, type, help), *samples.map { |labels, value| sample(name, labels, value) }].join
      end

      def head(name, type, help) = ["# HELP tasker_#{name} #{help}\n", "# TYPE tasker_#{name} #{type}\n"]

      def sample(name, labels, value)
        text = labels.map { |label, of| "#{label}=\"#{escaped(of)}\"" }.join(",")
        "tasker_#{name}#{"{#{text}}" unless text.empty?} #{value || 0}\n"
      end

      def escaped(value)
        Support::VisibleText.lines(value.to_s).gsub(/[\\"\n]/, "\\" => "\\\\", '"' => '\\"', "\n" => "\\n")
      end
    end
  end
end
