# frozen_string_literal: true

module TaskerCore
  module Support
    # Parses times that callers give: a task's `wait_until`, the filters of lists. A date, or a text without an offset,
    # is read in the application's time zone (`Time.zone`), as Active Record reads form input. A date is its midnight in
    # that zone, whatever the machine's zone is.
    #
    # @api private
    module TimeParser
      # In which a task can be created or start.
      YEARS = 1970..9999
      TEXT = /\A(\d{4})-(\d\d)-(\d\d)(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?\s?(Z|[+-]\d\d:?\d\d)?)?\z/i
      # The end of error messages.
      EXAMPLES = "a time such as 2026-01-31T12:00:00Z, or 2026-01-31 in the application's time zone"
      private_constant :YEARS, :TEXT

      module_function

      # @param value [Time, ActiveSupport::TimeWithZone, DateTime, Date, String, Object] a String in ISO 8601's format
      # @return [Time, nil] in UTC; nil if the value is not a time, or outside the years 1970 to 9999
      def read(value)
        time = time_of(value)&.utc
        time if time && YEARS.cover?(time.year)
      end

      # @return [ActiveSupport::TimeZone] the application's, or UTC
      def zone = Time.zone || ActiveSupport::TimeZone["UTC"]

      def time_of(value)
        case value
        when String then time_of_text(value)
        when ->(given) { given.acts_like?(:time) } then value.to_time
        when Date then value.in_time_zone(zone).to_time
        end
      end

      def time_of_text(text)
        date = text.valid_encoding? && text.match(TEXT)
        zone.parse(text)&.to_time if date && Date.valid_date?(*date.captures.first(3).map(&:to_i))
      rescue ArgumentError, RangeError
        nil
      end
      private_class_method :time_of, :time_of_text
    end
  end
end
