# frozen_string_literal: true

module TaskerCore
  module Operations
    # Finds tasks by filters, newest first, in pages, at a cost that does not grow with the number of tasks
    # (`db/functions/reports/find_tasks.sql`). For the lists of the API, the command line and the dashboard.
    #
    # @api private
    class TaskSearch
      # Some tasks, and the `after` of the next page, or nil. A page may be short, or empty, and still have a next one:
      # the scan for one page is limited.
      Page = Struct.new(:tasks, :next)

      FILTERS = %i[state status namespace workflow version tags since until correlation_id input].freeze

      AGO = /\A(\d+)\s*([smhdw])\z/
      UNITS = { "s" => :seconds, "m" => :minutes, "h" => :hours, "d" => :days, "w" => :weeks }.freeze
      TIME = "#{Support::TimeParser::EXAMPLES}, or an age such as 90m, 24h, 7d".freeze
      private_constant :AGO, :UNITS, :TIME

      # @param filters [Hash] all are optional
      # @option filters [String, Array<String>] :state one or several of {Task::STATES}
      # @option filters [String, Array<String>] :status one or several of {Task::STATUSES}
      # @option filters [String] :namespace
      # @option filters [String] :workflow the workflow's name
      # @option filters [String] :version
      # @option filters [String, Array<String>] :tags that the task must all have
      # @option filters [Time, Date, String] :since created then or later: ISO 8601, in the application's time zone
      #   unless it names one, or a time ago such as "24h"
      # @option filters [Time, Date, String] :until created before
      # @option filters [String] :correlation_id a UUID
      # @option filters [Hash] :input what the input contains
      # @param scan_limit [Integer] tasks to scan for one page
      # @raise [InputError] that names the invalid filter
      def initialize(filters = {}, scan_limit: TaskerCore.config[:api, :scan_limit])
        verify_names(filters)
        @given = filters.compact
        @scan_limit = scan_limit
        @filter = { states: words(:state, Task::STATES), statuses: words(:status, Task::STATUSES), tags: texts(:tags),
                    since: time(:since), until: time(:until), input: input,
                    correlation_id: uuid(:correlation_id, @given[:correlation_id]),
                    **%i[namespace workflow version].to_h { |name| [name, text(name)] } }.compact
      end

      # @param after [String, nil] the `next` of another page
      # @param limit [Integer] maximum number of tasks
      # @param tags [Boolean] whether the tasks' tags are read with them
      # @return [Page]
      # @raise [InputError] if `after` is not one
      def page(after: nil, limit: TaskerCore.config[:api, :page_size], tags: true)
        before = uuid(:after, after)
        filter = JSON.generate(@filter, max_nesting: 0)
        result = Postgres::Functions.run(:find_tasks, filter, before, limit, @scan_limit)
        ids = result.fetch("task_ids")
        by_id = tasks(ids, tags).index_by(&:id)
        result["unreadable"]&.each { |id, parts| by_id[id.to_i]&.unreadable = parts }
        Page.new(ids.filter_map { |id| by_id[id] }, result["next"])
      end

      # The first tasks, without a limit of the scan.
      # @param count [Integer] maximum number of tasks
      # @param after [String, nil] as in {#page}
      # @param tags [Boolean] as in {#page}
      # @return [Page]
      def first(count, after: nil, tags: true)
        found = Page.new([], after)
        loop do
          page = page(after: found.next, limit: count - found.tasks.size, tags: tags)
          found = Page.new(found.tasks + page.tasks, page.next)
          break found if found.next.nil? || found.tasks.size >= count
        end
      end

      private

      # If the tags cannot be read together, each task reads its own when needed.
      def tasks(ids, tags)
        relation = Task.where(id: ids).includes(:workflow_version)
        relation = relation.without_tags unless tags
        ApplicationRecord.reading("the tasks") { relation.to_a }
      rescue UnreadableError
        raise unless tags

        tasks(ids, false)
      end

      def verify_names(filters)
        unknown = (filters.keys - FILTERS).first
        return unless unknown

        remedy = Support::Spelling.remedy(unknown, FILTERS.map(&:name))
        invalid!(unknown, filters[unknown], "is an unknown filter: #{remedy}")
      end

      def words(name, known)
        words = texts(name) or return
        unknown = (words - known).first
        invalid!(name, unknown, "must be one or more of #{known.join(', ')}") if unknown
        words
      end

      def text(name)
        value = @given[name] or return
        return value if value.is_a?(String) && value.valid_encoding? && !value.include?("\0")

        invalid!(name, value, "must be a string without null characters")
      end

      def texts(name)
        return unless @given.key?(name)

        values = Array(@given[name]).map { |value| value.is_a?(Symbol) ? value.name : value }
        return values if values.all? { |value| value.is_a?(String) && value.valid_encoding? && !value.include?("\0") }

        invalid!(name, @given[name], "must be one or more strings")
      end

      def time(name)
        value = @given[name] or return
        time = Support::TimeParser.read(ago(value) || value)
        invalid!(name, value, "must be #{TIME}") unless time
        time.iso8601(6)
      rescue RangeError # before the earliest time
        invalid!(name, value, "must be #{TIME}")
      end

      def ago(value)
        count, unit = value.match(AGO)&.captures if value.is_a?(String)
        count && count.to_i.public_send(UNITS.fetch(unit)).ago
      end

      def input
        value = @given[:input] or return
        invalid!(:input, value, "must be an object that the input contains") unless value.is_a?(Hash)
        Support::JsonValue.of(value, "input")
      rescue Support::JsonValue::Unwritable => e
        raise InputError.unwritable("input", e)
      end

      def uuid(name, value)
        return if value.nil?
        return value.downcase if value.is_a?(String) && value.match?(Correlation::UUID)

        invalid!(name, value, name == :after ? "must be the `next` of another page" : "must be a UUID")
      end

      def invalid!(name, value, remedy) = raise(InputError.of(name, value, remedy))
    end
  end
end
