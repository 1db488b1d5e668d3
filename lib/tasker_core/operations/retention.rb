# frozen_string_literal: true

module TaskerCore
  module Operations
    # Removes tasks that ended long ago, with their steps, results and history, in batches (`db/functions/maintenance/prune.sql`).
    # Workers do the same all the time (`retention` in `config/tasker-core.yaml`); this is for operators.
    #
    # @api private
    class Retention
      # @param keep [Numeric] seconds for which a task is kept after its end
      # @param limit [Integer] tasks by one statement
      def initialize(keep: TaskerCore.config[:retention, :keep], limit: TaskerCore.config[:retention, :limit])
        @keep = keep
        @limit = limit
      end

      # @param dry_run [Boolean] only counts what would be removed
      # @yieldparam removed [Hash{String => Integer}] so far, after each batch
      # @return [Hash{String => Integer}] rows by table, without the prefix
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

      def prune(after, dry_run)
        ApplicationRecord.on_connection do |connection|
          Postgres::Functions.call(connection, :prune, @keep.to_f, after, @limit, dry_run)
        end
      end
    end
  end
end
