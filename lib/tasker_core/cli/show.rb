# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker show`: prints a task with its steps and operator actions, or one step with each of its attempts.
    #
    # @api private
    class Show < Command
      include Application
      include Terminal::Units

      ARGUMENTS = %w[TASK [STEP]].freeze

      # Characters of each result that are printed with a task. With a step, its result is printed whole.
      LONGEST_RESULT = 10_000
      # Lines of a backtrace outside the application, on any machine.
      FOREIGN = %r{/gems/|/lib/ruby/|/lib/tasker_core/|\A<internal:}
      COLUMNS = [
        Terminal::Table::Column.new(heading: "STEP", shrinks: true),
        Terminal::Table::Column.new(heading: "STATE", states: true),
        Terminal::Table::Column.new(heading: "ATTEMPTS"), Terminal::Table::Column.new(heading: "STARTED (UTC)"),
        Terminal::Table::Column.new(heading: "RAN")
      ].freeze
      ATTEMPTS = [
        Terminal::Table::Column.new(heading: "ATTEMPT"), Terminal::Table::Column.new(heading: "OUTCOME"),
        Terminal::Table::Column.new(heading: "PROCESS"),
        Terminal::Table::Column.new(heading: "STARTED (UTC)"), Terminal::Table::Column.new(heading: "RAN"),
        Terminal::Table::Column.new(heading: "ERROR", shrinks: true)
      ].freeze
      private_constant :LONGEST_RESULT, :FOREIGN, :COLUMNS, :ATTEMPTS

      private

      def options(parser)
        parser.on("--results",
                  "also print the input and the results; for a task, #{LONGEST_RESULT} characters of each") do
          @results = true
        end
        super
      end

      def perform(name, step = nil)
        task = Task.lookup(name)
        step ? show_step(task.step(step)) : show_task(task, task.steps)
        0
      end

      def show_task(task, steps)
        represented = HTTP::Serializer.task_with_steps(task, steps, results: false)
        @json ? print_task(task, represented, steps) : describe_task(task, represented, steps)
      end

      # Reads each result when it is printed, as results may be many or large.
      def print_task(task, represented, steps)
        results = StoredResults.new(task.id)
        members = represented[:steps].lazy.zip(steps).map do |represented_step, step|
          result = results[step.position] if step.result_bytes
          "#{JSON.generate(represented_step, max_nesting: 0).chop},\"result\":#{result&.text || 'null'}}"
        end
        print_json_with(represented.except(:steps), :steps, "[]", members)
      end

      def describe_task(task, represented, steps)
        title = "task #{task.id}: #{represented[:namespace]}.#{represented[:workflow]} #{represented[:version]}"
        @out.puts terminal.paint(Support::VisibleText.line(title), :bold)
        facts(represented).compact.each { |name, value| @out.puts format("  %-15s %s", name, value) }
        @out.puts "", Terminal::Table.new(terminal, COLUMNS).lines(represented[:steps].map { |step| row(step) })
        results = StoredResults.new(task.id, longest: LONGEST_RESULT) if @results
        represented[:steps].zip(steps) { |step, stored| details(step, results && beginning(results, stored)) }
        events(represented)
        return if represented[:execution_status] == "all_complete"

        @out.puts "", for_shard("`tasker why #{task.id}` explains it")
      end

      # @return [String, nil] the result, or its first characters and the command that prints it whole
      def beginning(results, step)
        return unless step.result_bytes && (result = results[step.position])
        return JSON.generate(result.value, max_nesting: 0) unless result.cut

        whole = for_shard("`tasker show #{step.task_id} #{step.name} --results`")
        "#{result.text}… (#{result.bytes} bytes: #{whole} prints it whole)"
      rescue DatabaseError => e
        "(#{e.message})"
      end

      def facts(task)
        { "state" => "#{terminal.paint_state(task[:state])} (#{task[:execution_status]})",
          "uuid" => task[:uuid],
          "created" => "#{moment(task[:created_at])} UTC",
          "ended" => task[:ended_at] && "#{moment(task[:ended_at])} UTC",
          "elapsed" => duration(task[:elapsed_ms]),
          "ran" => "#{duration(task[:running_ms])}, sum of all attempts",
          "next run" => task[:next_run_at] && "#{moment(task[:next_run_at])} UTC",
          "correlation id" => task[:correlation_id],
          "parent's" => task[:parent_correlation_id],
          "idempotency key" => task[:idempotency_key]&.then { Support::VisibleText.line(_1) },
          "priority" => (task[:priority] unless task[:priority].zero?),
          "tags" => task[:tags]&.then { Support::VisibleText.line(_1.join(", ")).presence },
          "input" => (visible_json(task[:input]) if @results && task[:input]),
          "unreadable" => task[:unreadable]&.then { "the database cannot read: #{_1.join(', ')}" } }
      end

      def row(step)
        [step[:name], step[:state], attempts(step), moment(step[:started_at]), ran(step)]
      end

      def attempts(step) = "#{step[:attempts]} of #{step[:max_attempts]}"

      # The sum of all attempts, without the waits between them.
      def ran(step) = duration(step[:started_at] && step[:running_ms])

      # Prints the fields that do not fit the table.
      # @param result [String, nil] JSON
      def details(step, result)
        entries = { "error" => error(step[:error]), "at" => step[:error]&.then { own_line(_1["backtrace"]) },
                    "waits" => (waits(step) if step[:state] == "waiting"),
                    "queued" => (queued(step) if awaits_job?(step)),
                    "runs" => (runs(step) if step[:claimed_at] && !awaits_job?(step)),
                    "result" => result }.compact
        return if entries.empty?

        @out.puts "", "#{terminal.paint_state(step[:state], Support::VisibleText.line(step[:name]))}:"
        entries.each { |name, text| @out.puts format("  %-7s %s", name, Support::VisibleText.lines(text).gsub("\n", "\n          ")) }
      end

      def waits(step) = "#{step[:waiting_reason]}, until #{moment(step[:run_at])} UTC"

      def awaits_job?(step) = %w[claimed enqueued].include?(step[:dispatch])

      # A job that no process has started.
      def queued(step) = "as a job of the application's queue since #{moment(step[:claimed_at])} UTC"

      # The start and the process of a running attempt.
      def runs(step)
        process = step[:process]
        name = ": #{process[:name]}, pid #{process[:pid]} on #{process[:hostname]}" if process
        "attempt #{step[:attempts]} since #{moment(step[:claimed_at])} UTC in process #{step[:process_id]}#{name}"
      end

      def error(error)
        return unless error

        "#{error['class']}#{" (#{error['code']})" if error['code']}: #{error['message']}"
      end

      # @return [String, nil] the application's first line, relative to its root if known
      def own_line(backtrace)
        Support::HostApplication.relative(Array(backtrace).find { |text| !text.match?(FOREIGN) })
      end

      def events(task)
        return if task[:events].blank?

        @out.puts "", terminal.paint("operator actions", :bold)
        task[:events].each do |event|
          about = [event[:action], event[:step]].compact.join(" ")
          @out.puts Support::VisibleText.line("  #{moment(event[:at])} #{event[:by]}: #{about}: #{event[:reason]}")
        end
      end

      def show_step(stored)
        step = HTTP::Serializer.step(stored)
        return print_json(step) if @json

        name = terminal.paint(Support::VisibleText.line(step[:name]), :bold)
        @out.puts "#{name}: #{terminal.paint_state(step[:state])}, #{attempts(step)} attempts"
        @out.puts Support::VisibleText.line("  after   #{step[:depends_on].join(', ')}") if step[:depends_on].any?
        @out.puts Support::VisibleText.line("  handler #{stored.handler}")
        attempts = step[:executions].map { |attempt| attempt_row(attempt) }
        @out.puts "", Terminal::Table.new(terminal, ATTEMPTS).lines(attempts) if attempts.any?
        details(step, (JSON.generate(step[:result], max_nesting: 0) if @results && step[:result]))
      end

      def attempt_row(attempt)
        [*attempt.values_at(:attempt, :outcome, :process_id), moment(attempt[:started_at]),
         duration(attempt[:duration_ms]), error(attempt[:error]) || "-"]
      end
    end
  end
end
