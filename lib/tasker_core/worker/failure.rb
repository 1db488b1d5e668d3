# frozen_string_literal: true

module TaskerCore
  class Worker
    # An exception as data, for the outcome of a failed attempt. Whatever its author made of its class, message or
    # backtrace, there is something to tell: a part that raises tells only that.
    #
    # @api private
    class Failure
      BACKTRACE_LINES = 20
      # The code of an error that no further attempt of the same code can avoid.
      PROGRAMMING_CODE = "programming_error"
      # Raised for code that is wrong, and by nothing that passes.
      PROGRAMMING_ERRORS = [UnknownStepError, UnknownEventError, SyntaxError, LoadError].freeze
      CALLER = File.expand_path("handler_registry.rb", __dir__)
      SIGNATURE = /\A(wrong number of arguments|missing keyword|unknown keyword|no keywords accepted)/
      private_constant :BACKTRACE_LINES, :PROGRAMMING_CODE, :PROGRAMMING_ERRORS, :CALLER, :SIGNATURE

      # @param message [String]
      # @return [String] its first line, for where there is room for one only, and … when more follow
      def self.headline(message)
        first, more = message.scrub.strip.split(/\s*\n/, 2)
        more ? "#{first.squish} …" : first.to_s.squish
      end

      # @param error [Exception]
      def initialize(error)
        @error = error
      end

      # @return [Hash{Symbol => Object}] class, message, code, backtrace
      def to_h
        { class: class_name, message: part { message }, code: part { code }, backtrace: Array(part { backtrace }) }
      end

      # @return [Boolean] whether another attempt may succeed
      def retryable? = !@error.is_a?(PermanentError) && !programming?

      # @return [Float, nil] seconds; what is no such number leaves the delay to the step's policy, which the message says
      def retry_after
        return unless @error.is_a?(RetryableError)

        given = @error.retry_after
        # A Time is no delay, though Float() makes one of it.
        seconds = Float(given, exception: false) if [Numeric, String, ActiveSupport::Duration].any? { |type| type === given } # rubocop:disable Style/CaseEquality
        seconds if seconds&.finite? && !seconds.negative?
      end

      private

      # An error in the code itself, beyond doubt: what may be a passing fault is none.
      def programming?
        PROGRAMMING_ERRORS.any? { |type| @error.is_a?(type) } || unknown_constant? || wrong_signature?
      end

      def unknown_constant?
        @error.is_a?(NameError) && !@error.is_a?(NoMethodError) && @error.name.to_s.match?(/\A[[:upper:]]/)
      end

      # Of the handler's own call, and of none within it.
      def wrong_signature?
        @error.instance_of?(ArgumentError) && SIGNATURE.match?(@error.message) &&
          @error.backtrace_locations&.at(1)&.path == CALLER
      end

      def message
        text = storable(@error.message)
        return text unless @error.is_a?(RetryableError) && !@error.retry_after.nil? && retry_after.nil?

        given = @error.retry_after
        "#{text} (retry_after: #{given.inspect.truncate(80)} (#{given.class}) is no number of seconds: the step's policy decides)"
      end

      # An anonymous class is told by the nearest above it that has a name; modules, which gems put before NameError, are none.
      def class_name
        part { storable(Enumerator.produce(@error.class, &:superclass).find(&:name).name) }
      end

      def code
        return PROGRAMMING_CODE if programming?

        storable(@error.code) if @error.is_a?(PermanentError) && @error.code
      end

      def backtrace = Array(@error.backtrace).first(BACKTRACE_LINES).map { |line| storable(line) }

      # It may hold anything; PostgreSQL's text holds UTF-8 without null characters.
      def storable(text) = String.new(text.to_s).force_encoding(Encoding::UTF_8).scrub.delete("\0")

      def part
        yield
      rescue Exception => e # rubocop:disable Lint/RescueException -- of the handler's own making
        "(cannot be told: #{e.class})"
      end
    end
  end
end
