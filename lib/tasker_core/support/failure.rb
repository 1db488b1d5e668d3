# frozen_string_literal: true

module TaskerCore
  module Support
    # An exception as data, for the outcome of a failed attempt. An exception whose class, message or backtrace raises
    # an error of its own is converted too: the part is replaced by that error's class.
    #
    # @api private
    class Failure
      BACKTRACE_LINES = 20
      HEADLINE_LENGTH = 1_000
      # The code of an error that every further attempt of the same code would repeat.
      PROGRAMMING_CODE = "programming_error"
      # Raised for wrong code only, never for a condition that passes.
      PROGRAMMING_ERRORS = [UnknownStepError, UnknownEventError, SyntaxError, LoadError].freeze
      SIGNATURE = /\A(wrong number of arguments|missing keyword|unknown keyword|no keywords accepted)/
      private_constant :BACKTRACE_LINES, :HEADLINE_LENGTH, :PROGRAMMING_CODE, :PROGRAMMING_ERRORS, :SIGNATURE

      # @param message [String] of any length
      # @return [String] its first line, up to 1,000 characters of it, with … if more follow
      def self.headline(message)
        first, more = message[0, HEADLINE_LENGTH].scrub.strip.split("\n", 2)
        is_whole = more.nil? && message.length <= HEADLINE_LENGTH
        "#{first.to_s.squish}#{' …' unless is_whole}"
      end

      # @param error [Exception]
      # @param caller_path [String, nil] the file that calls handlers: an ArgumentError of its own call is a programming
      #   error
      def initialize(error, caller_path: nil)
        @decision = error if error.is_a?(DecidedFailure)
        @error = DecidedFailure.original(error)
        @caller_path = caller_path
      end

      # @return [Hash{Symbol => Object}] class, message, code, backtrace
      def to_h
        { class: class_name, message: part { message }, code: part { code }, backtrace: Array(part { backtrace }) }
      end

      # @return [Boolean] whether another attempt may succeed
      def retryable? = @decision ? @decision.retryable : !@error.is_a?(PermanentError) && !programming?

      # @return [Float, nil] seconds; nil leaves the delay to the step's policy, also when the given value is not a
      #   number of seconds, which the message then says
      def retry_after
        case given = given_delay
        when Numeric, String, ActiveSupport::Duration # not a Time, which Float() would convert as well
          seconds = Float(given, exception: false)
          seconds if seconds&.finite? && !seconds.negative?
        end
      end

      private

      def given_delay
        return @decision.retry_after if @decision

        @error.retry_after if @error.is_a?(RetryableError)
      end

      # Only errors that are certainly in the code: an error that may be temporary is retried.
      def programming?
        PROGRAMMING_ERRORS.any? { |type| @error.is_a?(type) } || unknown_constant? || wrong_signature?
      end

      def unknown_constant?
        @error.is_a?(NameError) && !@error.is_a?(NoMethodError) && @error.name.to_s.match?(/\A[[:upper:]]/)
      end

      # Raised by the call of the handler itself, not by a call inside it.
      def wrong_signature?
        @error.instance_of?(ArgumentError) && SIGNATURE.match?(@error.message) &&
          !@caller_path.nil? && @error.backtrace_locations&.at(1)&.path == @caller_path
      end

      def message
        text = storable(@error.message)
        given = given_delay
        return text if given.nil? || retry_after

        "#{text} (retry_after: #{given.inspect.truncate(80)} (#{given.class}) is not a number of seconds: " \
          "the step's policy decides)"
      end

      # The nearest named superclass of an anonymous class. Modules, which gems insert before NameError, have no
      # instances.
      def class_name
        part { storable(Enumerator.produce(@error.class, &:superclass).find(&:name).name) }
      end

      def code
        return @decision.code if @decision
        return PROGRAMMING_CODE if programming?

        storable(@error.code) if @error.is_a?(PermanentError) && @error.code
      end

      def backtrace = Array(@error.backtrace).first(BACKTRACE_LINES).map { |line| storable(line) }

      # PostgreSQL stores UTF-8 without null characters.
      def storable(text) = String.new(text.to_s).force_encoding(Encoding::UTF_8).scrub.delete("\0")

      def part
        yield
      rescue Exception => e # rubocop:disable Lint/RescueException -- raised by a handler's own exception class
        "(cannot be shown: #{e.class})"
      end
    end
  end
end
