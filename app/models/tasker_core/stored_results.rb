# frozen_string_literal: true

module TaskerCore
  # Reads the results of a task's steps in parts, on demand.
  #
  # Invariant: a statement returns at most {BYTES} of results, or a single result, and only the latest part is kept.
  # After an error or a time-out the next part is smaller, down to the result at fault, which the error names. Inside
  # the caller's transaction, which ends with the first error, the error is the database's own.
  #
  # @api private
  class StoredResults
    include Enumerable

    BYTES = 4 * 1024 * 1024
    ROWS = 1000
    # Characters: the longest text of PostgreSQL.
    WHOLE = 1_073_741_823

    # Results that do not fit are not read: their sizes are stored beside them.
    PART = <<~SQL
      select position, name, bytes, more,
        case when bytes <= :longest then result::text else left(result::text, :longest + 1) end as text
      from (
        select s.position, d.name, s.result, s.result_bytes as bytes,
          sum(s.result_bytes) over (order by s.position) as bytes_so_far,
          row_number() over (order by s.position) as number,
          count(*) over () > row_number() over (order by s.position) or count(*) over () = :rows as more
        from (
          select position, result, result_bytes
          from tasker_workflow_steps
          where task_id = :task and position >= :from and result_bytes is not null
          order by position
          limit :rows
        ) as s
        join tasker_tasks t on t.id = :task
        join tasker_step_definitions d on d.workflow_version_id = t.workflow_version_id and d.position = s.position
      ) as part
      where number = 1 or bytes_so_far <= :bytes
      order by position
    SQL

    FIRST = <<~SQL
      select d.name
      from tasker_workflow_steps s
      join tasker_tasks t on t.id = s.task_id
      join tasker_step_definitions d on d.workflow_version_id = t.workflow_version_id and d.position = s.position
      where s.task_id = :task and s.position >= :from and s.result_bytes is not null
      order by s.position
      limit 1
    SQL
    private_constant :PART, :FIRST

    # A result: `text` is JSON, or its beginning if it is `cut`; `bytes` is the length of the whole.
    Result = Struct.new(:position, :name, :text, :bytes, :cut, keyword_init: true) do
      # @return [Hash]
      def value = JSON.parse(text, max_nesting: false)
    end

    # The results of the positions from `from` to `last`, which is nil for the last part.
    Part = Struct.new(:from, :last, :results) do
      def covers?(position) = position >= from && (last.nil? || position <= last)
    end
    private_constant :Part

    # @param task_id [Integer]
    # @param rows [Integer] largest number of results of a statement
    # @param longest [Integer] characters to read of a result
    def initialize(task_id, rows: ROWS, longest: WHOLE)
      @task_id = task_id
      @limit = Postgres::RowLimit.new([rows, ROWS].min)
      @longest = longest
    end

    # @yieldparam result [Result] by position
    # @raise [DatabaseError] that names the step whose result cannot be read
    def each(&block)
      return enum_for unless block

      from = 0
      while from
        part = part(from)
        part.results.each_value(&block)
        from = part.last&.next
      end
    end

    # Takes a statement for each part if it is called in the order of positions.
    # @param position [Integer] of a step that has a result
    # @return [Result, nil]
    # @raise [DatabaseError] that names the step when its result cannot be read
    def [](position)
      part = @part
      # A local variable, as another thread may read another part meanwhile.
      part = @part = part(position) unless part&.covers?(position)
      part.results[position]
    end

    private

    def part(from)
      found = @limit.run { |rows| read(from, rows) }
      last = found.last["position"] if found.any? && found.last["more"]
      Part.new(from, last, found.to_h { |row| [row["position"], result(row)] })
    rescue Postgres::RowLimit::RowError => e
      what = "the result of step #{first_name(from)} of task #{@task_id}"
      raise Postgres::Functions.unreadable(e.cause, what) || DatabaseError.new("#{what} cannot be read: #{e.message}")
    end

    def result(row)
      text = row["text"]
      Result.new(position: row["position"], name: row["name"], bytes: row["bytes"],
                 text: text[0, @longest], cut: text.length > @longest)
    end

    def read(from, rows) = rows(PART, from: from, rows: rows, bytes: BYTES, longest: @longest)

    def first_name(from) = rows(FIRST, from: from).first&.fetch("name")

    def rows(sql, **binds)
      Postgres::Rows.read(ApplicationRecord.sanitize_sql_array([sql, { task: @task_id, **binds }]))
    end
  end
end
