# frozen_string_literal: true

module TaskerCore
  class CLI
    # @api private
    class Terminal
      # Formats times and durations of {HTTP::Serializer} for people.
      module Units
        UNITS = [["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]].freeze
        private_constant :UNITS

        private

        # @param text [String, nil] ISO 8601
        # @return [String] in UTC, or "-"
        def moment(text) = text ? Time.iso8601(text).utc.strftime("%F %T") : "-"

        # @param milliseconds [Numeric, nil]
        # @return [String] "12 ms", "3.4 s", "2 min 5 s", "3 d 4 h", or "-"
        def duration(milliseconds)
          return "-" unless milliseconds
          return "#{milliseconds.round} ms" if milliseconds.round < 1000
          return "#{(milliseconds / 1000.0).round(1)} s" if milliseconds < 59_950

          seconds = (milliseconds / 1000.0).round
          largest = UNITS.index { |_, size| seconds >= size }
          UNITS[largest, 2].map { |unit, size| "#{seconds / size} #{unit}".tap { seconds %= size } }.join(" ")
        end
      end
    end
  end
end
