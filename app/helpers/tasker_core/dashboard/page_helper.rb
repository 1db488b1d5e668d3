# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # Formats states, times, JSON and errors for the pages.
    module PageHelper
      # Maximum characters of JSON that a page shows, and maximum bytes of an input or result that it reads.
      LONGEST_JSON = 50_000
      LONGEST_PAYLOAD = 1024 * 1024
      STATUS_WORDS = {
        "blocked_by_failures" => "blocked by failures", "has_ready_steps" => "has ready steps",
        "processing" => "has running steps", "scheduled" => "scheduled", "all_complete" => "all done",
        "waiting_for_dependencies" => "waits for other steps",
        **{ "waiting_for_repair" => "unreadable", "waiting_for_handler" => "unknown_handler",
            "waiting_for_code" => "not_loaded", "waiting_for_queue" => "not_enqueued", "waiting_for_retry" => "retry",
            "waiting_for_capacity" => "limited" }.transform_values { |reason| "waits #{Graph::WAITS.fetch(reason)}" }
      }.freeze
      # Recorded actions that are not {Operations::Action}s.
      MAINTENANCE_WORDS = { "repair" => "repaired the task", "skip_event" => "skipped an event" }.freeze
      private_constant :STATUS_WORDS, :MAINTENANCE_WORDS

      # The word shows the state; mark and colour only repeat it.
      def badge(state)
        mark = content_tag(:span, Graph::MARKS.fetch(state, "·"), "aria-hidden": true)
        content_tag(:span, safe_join([mark, " ", words(state)]), class: ["badge", state])
      end

      def words(name) = name.to_s.tr("_", " ")

      def status_words(status) = STATUS_WORDS.fetch(status) { words(status) }

      # What a waiting step waits for.
      def reason_words(reason) = Graph::WAITS.fetch(reason) { words(reason) }

      # @param process [Hash{String => Object}] see {Operations::Health#processes}
      def process_words(process)
        held = process["claimed_steps"]
        steps = counted(held, "step")
        return tag.strong(held.positive? ? "silent, holds #{steps}" : "silent") if process["silent"]

        held.positive? ? "running #{steps}" : "waiting for work"
      end

      # @param event [TaskEvent]
      def done_words(event)
        action = Operations::Action.find(event.position ? :step : :task, event.action)
        action&.past || MAINTENANCE_WORDS.fetch(event.action) { words(event.action) }
      end

      # @param context [Hash{String => Object}] see {Task#execution_context}
      # @return [Array<String>] states that steps of the task have, for {Operations::Action#offered?}
      def states_of_steps(context)
        { "error" => "failed_steps", "waiting" => "waiting_steps" }.select { |_, count| context[count].positive? }.keys
      end

      # @param time [Time, String, nil] ISO 8601 as text
      def moment(time)
        return "–" unless time

        time = Time.iso8601(time) if time.is_a?(String)
        precise = time.utc.iso8601(3)
        content_tag(:time, Diagnosis::Wording.moment(time, Time.now), datetime: precise, title: precise)
      end

      def ago(time)
        return "–" unless time

        time = Time.iso8601(time) if time.is_a?(String)
        seconds = Time.now - time
        text = seconds.negative? ? "in #{span(-seconds)}" : "#{span(seconds)} ago"
        content_tag(:time, text, datetime: time.utc.iso8601(3), title: time.utc.iso8601(3))
      end

      # @param seconds [Numeric, nil]
      # @return [String] as {Diagnosis::Wording.span}, or a dash
      def span(seconds) = seconds ? Diagnosis::Wording.span(seconds) : "–"

      # @param milliseconds [Numeric, nil]
      def span_of(milliseconds) = span(milliseconds && (milliseconds / 1000.0))

      def counted(count, noun) = "#{number_with_delimiter(count)} #{noun.pluralize(count)}"

      # A count that may have reached the limit of counting.
      def capped(count)
        count >= Operations::Health::CAP ? "#{number_with_delimiter(count)} or more" : number_with_delimiter(count)
      end

      # JSON, filtered by the application's `config.filter_parameters`.
      def json(value)
        text = JSON.pretty_generate(TaskerCore.logging.filtered(value), max_nesting: 0)
        cut = text.truncate(LONGEST_JSON, omission: "\n… (#{text.length} characters in total)")
        content_tag(:pre, content_tag(:code, cut), tabindex: 0)
      end

      # @param bytes [Integer] length of an input or a result
      # @param command [String] the command that prints it whole
      # @yieldreturn [Hash] read only if it is short enough
      def payload(bytes, command)
        return json(yield) if bytes <= LONGEST_PAYLOAD

        note = "Its #{number_with_delimiter(bytes)} bytes are too many for a page: `#{command}` prints it."
        content_tag(:p, with_code(note), class: "empty")
      end

      # @raise [UnreadableError]
      def input_of(task)
        what = "the input of task #{task.id}"
        input = ApplicationRecord.reading(what) { TaskInput.up_to(LONGEST_PAYLOAD).find(task.id) }
        payload(input.input_bytes, "tasker show #{task.id} --results") { input.input }
      end

      # The block's value, or a note that the database cannot read it.
      def readable
        yield
      rescue UnreadableError => e
        content_tag(:span, e.message, class: "note")
      end

      def failure(error) = Diagnosis::Wording.failure(error)

      # Renders text between backquotes as code.
      def with_code(text)
        safe_join(text.split(/`([^`]+)`/).each_with_index.map { |part, number| number.odd? ? tag.code(part) : part })
      end

      def graph_of(graph, title, &link)
        region(graph.to_svg(&link).html_safe, "graph", title)
      end

      # A table that scrolls in its own frame if it is wider than the screen.
      def table(label, &content)
        region(content_tag(:table, &content), "table", label)
      end

      # Seconds until the page refreshes, or nil.
      def refresh_seconds
        seconds = TaskerCore.config[:dashboard, :refresh_interval]
        seconds.ceil if @refreshed && seconds.positive? && params[:refresh] != "no"
      end

      # The query of the same page without its notice, and with refresh.
      def fresh_query = "?#{request.query_parameters.except('done', 'refresh').to_query}"

      def paused_query = "?#{request.query_parameters.except('done').merge('refresh' => 'no').to_query}"

      def refreshable? = @refreshed && TaskerCore.config[:dashboard, :refresh_interval].positive?

      def nav_link(title, path, current)
        link_to title, path, "aria-current": (current ? "page" : nil)
      end

      private

      def region(content, css_class, label)
        content_tag(:div, content, class: css_class, role: "region", tabindex: 0, "aria-label": label)
      end
    end
  end
end
