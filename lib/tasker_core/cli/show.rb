# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker show`: a task with its steps, and what people did to it; or one step with each of its attempts.
    class Show < Command
      include Application
      include Figures

      ARGUMENTS = %w[TASK [STEP]].freeze

      # What a backtrace has beside the application's own lines, on whichever machine it was.
      FOREIGN = %r{/gems/|/lib/ruby/|/lib/tasker_core/|\A<internal:}
      COLUMNS = [
        Table::Column.new(heading: "STEP", shrinks: true), Table::Column.new(heading: "STATE", states: true),
        Table::Column.new(heading: "ATTEMPTS"), Table::Column.new(heading: "STARTED (UTC)"), Table::Column.new(heading: "RAN")
      ].freeze
      ATTEMPTS = [
        Table::Column.new(heading: "ATTEMPT"), Table::Column.new(heading: "OUTCOME"), Table::Column.new(heading: "PROCESS"),
        Table::Column.new(heading: "STARTED (UTC)"), Table::Column.new(heading: "RAN"),
        Table::Column.new(heading: "ERROR", shrinks: true)
      ].freeze
      private_constant :FOREIGN, :COLUMNS, :ATTEMPTS

      private

      def options(parser)
        parser.on("--results", "print the input and the steps' results too") { @results = true }
        super
      end

      def perform(name, step = nil)
        task = Task.called(name)
        step ? show_step(Representation.step(task.step(step))) : show_task(Representation.task_with_steps(task))
        0
      end

      def show_task(task)
        return print_json(task) if @json

        title = "task #{task[:id]}: #{task[:namespace]}.#{task[:workflow]} #{task[:version]}"
        @out.puts terminal.paint(VisibleText.line(title), :bold)
        facts(task).compact.each { |name, value| @out.puts format("  %-15s %s", name, value) }
        @out.puts "", Table.new(terminal, COLUMNS).lines(task[:steps].map { |step| row(step) })
        task[:steps].each { |step| details(step) }
        events(task)
        @out.puts "", "`tasker why #{task[:id]}` explains it" unless task[:execution_status] == "all_complete"
      end

      def facts(task)
        { "state" => "#{terminal.paint_state(task[:state])} (#{task[:execution_status]})",
          "uuid" => task[:uuid],
          "created" => "#{moment(task[:created_at])} UTC",
          "ended" => task[:ended_at] && "#{moment(task[:ended_at])} UTC",
          "elapsed" => duration(task[:elapsed_ms]),
          "ran" => "#{duration(task[:running_ms])}, all attempts together",
          "next run" => task[:next_run_at] && "#{moment(task[:next_run_at])} UTC",
          "correlation id" => task[:correlation_id],
          "parent's" => task[:parent_correlation_id],
          "idempotency key" => task[:idempotency_key]&.then { VisibleText.line(_1) },
          "priority" => (task[:priority] unless task[:priority].zero?),
          "tags" => VisibleText.line(task[:tags].join(", ")).presence,
          "input" => (visible_json(task[:input]) if @results) }
      end

      def row(step)
        [step[:name], step[:state], attempts(step), moment(step[:started_at]), ran(step)]
      end

      def attempts(step) = "#{step[:attempts]} of #{step[:max_attempts]}"

      # Of all its attempts, without the waits between them.
      def ran(step) = duration(step[:started_at] && step[:running_ms])

      # What does not fit a table.
      def details(step)
        told = { "error" => error(step[:error]), "at" => step[:error]&.then { own_line(_1["backtrace"]) },
                 "waits" => (waits(step) if step[:state] == "waiting"),
                 "runs" => (runs(step) if step[:claimed_at]),
                 "result" => (JSON.generate(step[:result], max_nesting: 0) if @results && step[:result]) }.compact
        return if told.empty?

        @out.puts "", "#{terminal.paint_state(step[:state], VisibleText.line(step[:name]))}:"
        told.each { |name, text| @out.puts format("  %-7s %s", name, VisibleText.lines(text).gsub("\n", "\n          ")) }
      end

      def waits(step) = "#{step[:waiting_reason]}, until #{moment(step[:run_at])} UTC"

      # Since when, and where.
      def runs(step)
        process = step[:process]
        name = ": #{process[:name]}, pid #{process[:pid]} on #{process[:hostname]}" if process
        "attempt #{step[:attempts]} since #{moment(step[:claimed_at])} UTC in process #{step[:process_id]}#{name}"
      end

      def error(error)
        return unless error

        "#{error['class']}#{" (#{error['code']})" if error['code']}: #{error['message']}"
      end

      # @return [String, nil] the first line of the application's own, from its root where that is known
      def own_line(backtrace)
        line = Array(backtrace).find { |text| !text.match?(FOREIGN) }
        root = defined?(Rails.root) && Rails.root
        root ? line&.delete_prefix("#{root}/") : line
      end

      def events(task)
        return if task[:events].empty?

        @out.puts "", terminal.paint("what people did", :bold)
        task[:events].each do |event|
          about = [event[:verb], event[:step]].compact.join(" ")
          @out.puts VisibleText.line("  #{moment(event[:at])} #{event[:by]}: #{about}: #{event[:reason]}")
        end
      end

      def show_step(step)
        return print_json(step) if @json

        name = terminal.paint(VisibleText.line(step[:name]), :bold)
        @out.puts "#{name}: #{terminal.paint_state(step[:state])}, #{attempts(step)} attempts"
        @out.puts VisibleText.line("  after   #{step[:depends_on].join(', ')}") if step[:depends_on].any?
        attempts = step[:executions].map { |attempt| attempt_row(attempt) }
        @out.puts "", Table.new(terminal, ATTEMPTS).lines(attempts) if attempts.any?
        details(step)
      end

      def attempt_row(attempt)
        [*attempt.values_at(:attempt, :outcome, :process_id), moment(attempt[:started_at]), duration(attempt[:duration_ms]),
         error(attempt[:error]) || "-"]
      end
    end
  end
end
