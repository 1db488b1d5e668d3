# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # How the workflows have done of late: since a day ago, or among the newest tasks where a day had more than are looked at.
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

      # @param most [Integer] tasks that are looked at
      def initialize(most: TaskerCore.config[:api, :scan_limit])
        @most = most
      end

      # @return [Time]
      def since = bounds.fetch("since")

      # @return [Boolean] whether a day had more tasks than are looked at
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
