# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker list`: prints tasks that match all filters, newest first.
    #
    # @api private
    class List < Command
      include Application
      include Terminal::Units

      LIMIT = 20
      MOST = 1000
      COLUMNS = [
        Terminal::Table::Column.new(heading: "TASK"), Terminal::Table::Column.new(heading: "WORKFLOW", shrinks: true),
        Terminal::Table::Column.new(heading: "STATE", states: true),
        Terminal::Table::Column.new(heading: "STATUS", optional: true),
        Terminal::Table::Column.new(heading: "STEPS"), Terminal::Table::Column.new(heading: "CREATED (UTC)"),
        Terminal::Table::Column.new(heading: "ELAPSED", optional: true), Terminal::Table::Column.new(heading: "RAN")
      ].freeze
      private_constant :LIMIT, :MOST, :COLUMNS

      def initialize(**)
        super
        @filters = {}
        @limit = LIMIT
      end

      # @return [Integer] exit status
      def run(arguments)
        @arguments = arguments
        super
      end

      private

      def options(parser)
        filters(parser)
        parser.on("--limit N", Integer, "maximum number of tasks (default: #{LIMIT})") { @limit = _1 }
        parser.on("--after UUID", "continue after this task of an earlier list") { @after = _1 }
        super
      end

      def filters(parser)
        parser.on("--state A,B", Array, "one or several of #{Task::STATES.join(', ')}") { @filters[:state] = _1 }
        parser.on("--status A,B", Array, "one or several of #{Task::STATUSES.join(', ')}") { @filters[:status] = _1 }
        parser.on("--workflow NAME", "a workflow's name, or namespace.name") { @filters[:workflow] = _1 }
        parser.on("--namespace NAME", "a workflow's namespace") { @filters[:namespace] = _1 }
        parser.on("--version VERSION", "a workflow's version") { @filters[:version] = _1 }
        parser.on("--tag TAG", "a tag; several options: all of them") { (@filters[:tags] ||= []) << _1 }
        parser.on("--since TIME", "created then or later: 2026-01-31T12:00:00Z, 2026-01-31 in the application's time",
                  "zone, or 90m, 24h, 7d ago") { @filters[:since] = _1 }
        parser.on("--until TIME", "created before: like --since") { @filters[:until] = _1 }
        parser.on("--correlation-id UUID", "the task's correlation id") { @filters[:correlation_id] = _1 }
        parser.on("--input JSON", "an object that the input contains") { @filters[:input] = object("--input", _1) }
      end

      def perform
        raise UsageError, "--limit: #{@limit} must be from 1 to #{MOST}" unless @limit.between?(1, MOST)

        page = Operations::TaskSearch.new(filter).first(@limit, after: @after, tags: @json)
        tasks = HTTP::Serializer.tasks(page.tasks, tags: @json)
        @json ? print_json(tasks: tasks, next: page.next) : print_text(tasks, page.next)
        0
      end

      def filter
        namespace, name = @filters[:workflow].to_s.split(".", 2)
        return @filters unless name
        return { **@filters, namespace: namespace, workflow: name } if [nil, namespace].include?(@filters[:namespace])

        raise UsageError, "--namespace: #{@filters[:namespace]} contradicts --workflow #{@filters[:workflow]}"
      end

      def print_text(tasks, following)
        return @out.puts "no task matches" if tasks.empty?

        @out.puts Terminal::Table.new(terminal, COLUMNS).lines(tasks.map { |task| row(task) })
        tasks.each { |task| @out.puts "task #{task[:id]}: #{unreadable(task)}" if task[:unreadable] }
        @out.puts "continue with: #{Support::VisibleText.line(command(following))}" if following
      end

      def row(task)
        counts = task.fetch(:counts)
        [task[:id], "#{task[:namespace]}.#{task[:workflow]} #{task[:version]}", task[:state],
         status(task), "#{counts[:completed]} of #{counts[:total]}", moment(task[:created_at]),
         duration(task[:elapsed_ms]), duration(task[:running_ms])]
      end

      # It is in the list although the filter may not fit it.
      def unreadable(task)
        "its #{task[:unreadable].to_sentence} cannot be read by the database: `tasker why #{task[:id]}`"
      end

      # The state of an ended task says it all.
      def status(task)
        return "-" if task[:ended_at]

        due = " until #{moment(task[:next_run_at])}" if task[:execution_status] == "scheduled"
        "#{task[:execution_status]}#{due}"
      end

      # The same command for the next page.
      def command(following)
        same = @arguments - ["--after", @after, "--after=#{@after}"]
        ["tasker list", *same.map(&:shellescape), "--after", following].join(" ")
      end
    end
  end
end
