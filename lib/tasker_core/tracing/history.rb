# frozen_string_literal: true

module TaskerCore
  module Tracing
    # Earlier attempts of a claim's task, for links and for spans that no process could send. Reads them with one query,
    # and only for a sampled task whose step has parents or was attempted before.
    #
    # @api private
    class History
      # A wide step has links to this many of its parents.
      MOST = 32
      SQL = <<~SQL.freeze
        select d.name, a.attempt, a.token, a.outcome, a.started_at, a.finished_at,
          a.error->>'class' as error_class, a.error->>'message' as error_message
        from tasker_tasks t
        join tasker_step_definitions d on d.workflow_version_id = t.workflow_version_id
        join tasker_step_attempts a on a.task_id = t.id and a.position = d.position
        where t.id = $1 and d.name = any($2::text[]) and a.token <> $3
          and (a.outcome = 'completed' or d.name = $4)
        order by a.token desc
        limit #{MOST + 1}
      SQL
      private_constant :MOST, :SQL

      # @param claim [Hash{String => Object}]
      # @param parent [OpenTelemetry::Trace::SpanContext] of the span that created the task
      def initialize(claim, parent)
        @claim = claim
        @parent = parent
        @step = claim.fetch("step")
      end

      # @return [Array<OpenTelemetry::Trace::Link>] to the attempts that completed the parents, and the previous attempt
      def links
        rows = attempts.reject { |row| row["name"] == @step } + [previous].compact
        rows.map do |row|
          ::OpenTelemetry::Trace::Link.new(context_of(row), { "tasker.step.name" => row["name"],
                                                              "tasker.attempt.number" => row["attempt"] })
        end
      end

      # Sends the span of the previous attempt if it was lost: its process probably died before it could. The spans of
      # released attempts are sent by their processes, when these end the handlers.
      def report_lost(context)
        row = previous
        return unless row && row["outcome"] == "lost"

        span = SpanId.use(span_id(row)) { start(row, context) }
        span.status = ::OpenTelemetry::Trace::Status.error(row["error_message"].to_s)
        span.finish(end_timestamp: row["finished_at"])
      end

      private

      def start(row, context)
        attributes = Attributes.attempt(@claim.merge("attempt" => row["attempt"]))
        attributes.update("tasker.attempt.outcome" => row["outcome"], "error.type" => row["error_class"].to_s)
        name = "process #{@claim.fetch('workflow')}.#{@step}"
        Tracing.tracer.start_span(name, with_parent: context, kind: :consumer, attributes: attributes,
                                        start_timestamp: row["started_at"])
      end

      def previous = attempts.find { |row| row["name"] == @step }

      def attempts
        @attempts ||= wanted? ? read : []
      end

      def wanted?
        has_history = @claim.fetch("dependencies").any? || @claim.fetch("attempt") > 1
        has_history && @parent.valid? && @parent.trace_flags.sampled? && SpanId.settable?
      end

      def read
        names = PG::TextEncoder::Array.new.encode([*@claim.fetch("dependencies").first(MOST), @step])
        Postgres::Rows.read(SQL, @claim.fetch("task_id"), names, @claim.fetch("token"), @step)
      end

      def span_id(row) = SpanId.of(@claim.fetch("task_uuid"), row["token"])

      def context_of(row)
        ::OpenTelemetry::Trace::SpanContext.new(trace_id: @parent.trace_id, span_id: span_id(row), remote: true,
                                                trace_flags: @parent.trace_flags)
      end
    end
  end
end
