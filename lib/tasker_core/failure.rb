# frozen_string_literal: true

module TaskerCore
  # An exception as data, for the outcome of a failed attempt. Whatever its author made of its class, message or
  # backtrace, there is something to tell: a part that raises tells only that.
  class Failure
    BACKTRACE_LINES = 20
    private_constant :BACKTRACE_LINES

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
      { class: class_name, message: part { storable(@error.message) }, code: part { code }, backtrace: Array(part { backtrace }) }
    end

    # @return [Boolean] whether another attempt may succeed
    def retryable? = !@error.is_a?(PermanentError)

    # @return [Float, nil] seconds; what is no such number leaves the delay to the step's policy
    def retry_after
      seconds = @error.is_a?(RetryableError) ? Float(@error.retry_after, exception: false) : nil
      seconds if seconds&.finite?
    end

    private

    # An anonymous class is told by the nearest above it that has a name; modules, which gems put before NameError, are none.
    def class_name
      part { storable(Enumerator.produce(@error.class, &:superclass).find(&:name).name) }
    end

    def code = @error.is_a?(PermanentError) && @error.code ? storable(@error.code) : nil

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
