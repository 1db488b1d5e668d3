# frozen_string_literal: true

require "dry/events/filter"

module TaskerCore
  class Events
    # Selects the events of a subscription by the fields of their payload, with dry-events' rules.
    #
    # @api private
    class Filter
      # dry-events compares with `==`, by which these never equal a value of a payload.
      PATTERNS = [Regexp, Range, Module].freeze
      private_constant :PATTERNS

      # @return [Hash] for dry-events: fields as symbols, nested names as strings
      attr_reader :to_h

      # @param fields [Hash] values, arrays of values or lambdas, by field
      # @raise [ConfigurationError] when a value can match no event
      def initialize(fields)
        @to_h = fields.to_h { |field, value| [field.to_sym, comparable(field, value)] }.freeze
      end

      # @param patterns [Array<String>] the subscription's
      # @param native [Native::EventPublisher]
      # @return [self]
      # @raise [UnknownEventError] when a pattern matches no event, or none of the events has one of the fields
      def verify(patterns, native)
        native.verify_filter(patterns, paths(to_h))
        self
      end

      # @param event [Event]
      # @return [Boolean]
      def select?(event) = Dry::Events::Filter.new(to_h).call(event.payload.transform_keys(&:to_sym))

      private

      def comparable(field, value)
        case value
        when Symbol then value.name
        when Array then value.map { |item| comparable(field, item) }
        when Hash then value.to_h { |inner, item| [inner.to_s, comparable("#{field}.#{inner}", item)] }
        when *PATTERNS
          raise ConfigurationError.new("filter: #{field}: #{value.inspect} (#{value.class}) can match no " \
                                       "payload value: use a value, an array of values, or a lambda")
        else value
        end
      end

      # @return [Array<String>] `error.code` for a field of an object
      def paths(fields)
        fields.flat_map do |field, value|
          value.is_a?(Hash) && value.any? ? paths(value).map { |inner| "#{field}.#{inner}" } : field.to_s
        end
      end
    end
  end
end
