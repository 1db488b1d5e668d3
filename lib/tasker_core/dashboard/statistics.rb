# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # Statistics of workflows over the last 24 hours, or over the newest tasks if a day has more than the limit.
    #
    # @api private
    class Statistics
      SINCE = <<~SQL.freeze
        select greatest(clock.now - interval '24 hours', (
            select created_at
            from tasker_tasks
            order by uuid desc
            offset $1::integer
            limit 1
          )) as since,
          clock.now - interval '24 hours' as whole
        from (select #{Postgres::Functions::SCHEMA}.current_time() as now) as clock
      SQL
      ROWS = "select * from #{Postgres::Functions::SCHEMA}.analytics($1::timestamptz)".freeze
      private_constant :SINCE, :ROWS

      # @param most [Integer] maximum number of tasks to read
      def initialize(most: TaskerCore.config[:api, :scan_limit])
        @most = most
      end

      # @return [Time]
      def since = bounds.fetch("since")

      # @return [Boolean] whether the day has more tasks than the limit
      def cut? = since > bounds.fetch("whole")

      # @param version [WorkflowVersion]
      # @return [Hash{String => Object}, nil] the columns of the function analytics
      def of(version) = rows[version.values_at(:namespace, :name, :version)]

      private

      def bounds = @bounds ||= Postgres::Rows.read(SINCE, @most).first

      def rows
        @rows ||= Postgres::Rows.read(ROWS, since.iso8601(6)).index_by do |row|
          row.values_at("namespace", "workflow", "version")
        end
      end
    end
  end
end
