# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # Formats times, counts and errors.
    #
    # @api private
    module Wording
      LONGEST_MESSAGE = 200
      UNITS = [[172_800, 86_400, "d"], [7200, 3600, "h"], [120, 60, "min"]].freeze
      private_constant :LONGEST_MESSAGE, :UNITS

      module_function

      # @param seconds [Numeric]
      # @return [String] "17 ms", "27 s", "4 min"
      def span(seconds)
        return "#{(seconds * 1000).round} ms" if seconds.positive? && seconds < 0.95

        _, unit, name = UNITS.find { |least, _, _| seconds >= least }
        return "#{(seconds / unit).floor} #{name}" if unit

        "#{seconds < 10 ? [seconds, 0].max.round(1).to_s.delete_suffix('.0') : seconds.floor} s"
      end

      # @param time [Time]
      # @param now [Time]
      # @return [String] "12:01:03 UTC", with the date unless it is today
      def moment(time, now)
        time.utc.strftime(time.utc.to_date == now.utc.to_date ? "%H:%M:%S UTC" : "%Y-%m-%d %H:%M:%S UTC")
      end

      # @param count [Integer]
      # @param noun [String] in the singular
      # @return [String] "3 steps"
      def counted(count, noun) = "#{count} #{noun.pluralize(count)}"

      # @param error [Hash{String => Object}] class, message and code
      # @return [String] "CardError: declined (card_declined)"; the class alone if the message adds nothing
      def failure(error)
        words = error.values_at("class", "message").map { |part| Support::Failure.headline(part.to_s) }
        message = words.uniq.join(": ").truncate(LONGEST_MESSAGE)
        error["code"] ? "#{message} (#{error['code']})" : message
      end
    end
  end
end
