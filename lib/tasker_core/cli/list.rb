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
        parser.on("--after UUID", "continue an earlier list after this task") { @after = _1 }
        super
      end

      def filters(parser)
        parser.on("--state A,B", Array, "one or more of #{Task::STATES.join(', ')}") { @filters[:state] = _1 }
        parser.on("--status A,B", Array, "one or more of #{Task::STATUSES.join(', ')}") { @filters[:status] = _1 }
        parser.on("--workflow NAME", "a workflow's name, or namespace.name") { @filters[:workflow] = _1 }
        parser.on("--namespace NAME", "a workflow's namespace") { @filters[:namespace] = _1 }
        parser.on("--version VERSION", "a workflow's version") { @filters[:version] = _1 }
        parser.on("--tag TAG", "a tag; repeat the option to require several tags") { (@filters[:tags] ||= []) << _1 }
        parser.on("--since TIME", "created at or after this time: 2026-01-31T12:00:00Z, 2026-01-31 (in the",
                  "application's time zone), or an age such as 90m, 24h, 7d") { @filters[:since] = _1 }
        parser.on("--until TIME", "created before this time, in the form of --since") { @filters[:until] = _1 }
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

      # The list includes it although the filter may not match it.
      def unreadable(task)
        why = for_shard("`tasker why #{task[:id]}`")
        "its #{task[:unreadable].to_sentence} cannot be read by the database: #{why}"
      end

      # An ended task needs no status beside its state.
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
