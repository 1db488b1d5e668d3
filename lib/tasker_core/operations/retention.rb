# frozen_string_literal: true

module TaskerCore
  module Operations
    # Removes tasks that ended long ago, with their steps, results and history, in batches
    # (`db/functions/maintenance/prune.sql`). For operators: workers do the same continuously (`retention` in
    # `config/tasker-core.yaml`).
    #
    # @api private
    class Retention
      # @param keep [Numeric] seconds for which a task is kept after its end
      # @param limit [Integer] tasks per statement
      def initialize(keep: TaskerCore.config[:retention, :keep], limit: TaskerCore.config[:retention, :limit])
        @keep = keep
        @limit = Postgres::RowLimit.new(limit)
        @skipped = []
      end

      # @return [Array<String>] a sentence for each task that the database could not remove
      attr_reader :skipped

      # @param dry_run [Boolean] whether to count the rows only
      # @yieldparam removed [Hash{String => Integer}] the rows so far, after each batch
      # @return [Hash{String => Integer}] removed rows by table, without the table name's prefix
      # @raise [DatabaseError] on an error that is not caused by a task
      def run(dry_run: false)
        removed = Hash.new(0)
        after = nil
        loop do
          result = prune(after, dry_run)
          removed.merge!(result.fetch("removed")) { |_, before, more| before + more }
          yield removed if block_given?
          break removed unless (after = result.fetch("after"))
        end
      end

      private

      # Removes fewer tasks per statement if the statement is too large. Skips a task that cannot be removed.
      def prune(after, dry_run)
        @limit.run { |limit| Postgres::Functions.run(:prune, @keep.to_f, after, limit, dry_run) }
      rescue Postgres::RowLimit::RowError => e
        task = Postgres::Functions.run(:next_task, nil, after, @keep.to_f) or raise
        @skipped << "task #{task['id']} (#{task['uuid']}) is skipped: #{e.message}"
        { "removed" => {}, "after" => task["uuid"] }
      end
    end
  end
end
