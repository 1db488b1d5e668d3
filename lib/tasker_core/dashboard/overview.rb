# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # The status of the installation, and the tasks that need attention.
    #
    # @api private
    class Overview
      # Tasks to show of each kind; the list of tasks has all.
      SHOWN = 10

      SUBSCRIPTIONS = "select * from #{Postgres::Functions::SCHEMA}.subscription_health(#{Operations::Health::CAP})".freeze
      private_constant :SUBSCRIPTIONS

      # @return [Hash{String => Object}] see {Operations::Health#stats}
      def stats = @stats ||= Operations::Health.new.stats

      # @return [Array<Hash{String => Object}>] see {Operations::Health#processes}
      def processes = @processes ||= Operations::Health.new.processes

      # @return [Hash{String => Integer}] ready steps of queues that no live process serves, by queue
      def unserved
        @unserved ||= begin
          served = processes.reject { |process| process["silent"] }.flat_map { |process| process["queues"] }.uniq
          served.include?("*") ? {} : Operations::Health.new.queues.except(*served)
        end
      end

      # @return [Array<Hash>] the newest tasks that ended with an error, as {HTTP::Serializer.tasks}
      def failed = tasks.fetch(:failed)

      # @return [Array<Hash>] tasks with a step that failed permanently, among the newest that have not ended
      def blocked = tasks.fetch(:blocked)

      # @return [Array<Hash{String => Object}>] durable subscriptions that cannot deliver their next event
      def failing_subscriptions
        @failing_subscriptions ||= Postgres::Rows.read(SUBSCRIPTIONS).select { |one| one["failures"].positive? }
      end

      private

      def limit = TaskerCore.config[:dashboard, :page_size]

      def tasks
        @tasks ||= begin
          failed = Operations::TaskSearch.new({ state: "error" }).page(limit: SHOWN).tasks
          unended = Operations::TaskSearch.new({ state: %w[pending in_progress] }).page(limit: limit).tasks
          rows = HTTP::Serializer.tasks(failed + unended).index_by { |task| task[:id] }
          blocked = rows.values_at(*unended.map(&:id)).compact
          blocked = blocked.select { |task| task[:execution_status] == "blocked_by_failures" }
          { failed: rows.values_at(*failed.map(&:id)).compact, blocked: blocked.first(SHOWN) }
        end
      end
    end
  end
end
