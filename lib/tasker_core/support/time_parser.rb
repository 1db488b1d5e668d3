# frozen_string_literal: true

module TaskerCore
  module Support
    # A time as people and programs give it: a task's `wait_until`, the filters of lists. What names no time zone (a date, a text
    # without an offset) is read in the application's: `Time.zone`, as Active Record reads what a form sends. A date begins at
    # midnight there, whatever the zone of the machine.
    #
    # @api private
    module TimeParser
      # In which a task can be created, or start.
      YEARS = 1970..9999
      TEXT = /\A(\d{4})-(\d\d)-(\d\d)(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?\s?(Z|[+-]\d\d:?\d\d)?)?\z/i
      # The end of a refusal's sentence.
      EXAMPLES = "a time such as 2026-01-31T12:00:00Z, or 2026-01-31 in the application's time zone"
      private_constant :YEARS, :TEXT

      module_function

      # @param value [Time, ActiveSupport::TimeWithZone, DateTime, Date, String, Object] a text as ISO 8601 has it
      # @return [Time, nil] in UTC; nil where it is no time, or one of another year
      def read(value)
        time = time_of(value)&.utc
        time if time && YEARS.cover?(time.year)
      end

      # @return [ActiveSupport::TimeZone] the application's; UTC where there is none
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
