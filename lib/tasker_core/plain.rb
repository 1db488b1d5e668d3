# frozen_string_literal: true

module TaskerCore
  # From the Ruby values that people write (durations, symbols, classes, times) to those that JSON has.
  # Integers of any size stay exact; what has no meaning in JSON raises instead of becoming null.
  module Plain
    module_function

    # @return [String] JSON text
    # @raise [JSON::GeneratorError] for NaN, infinity and text that is not UTF-8
    # @raise [JSON::NestingError] for values that contain themselves
    def json(value) = JSON.generate(of(value), max_nesting: 0)

    # @return [Hash, Array, String, Numeric, Boolean, nil]
    def of(value, depth = 0)
      raise JSON::NestingError, "nested too deeply, or in itself" if depth > 1000

      case value
      when nil, true, false, Integer, Float, String then value
      when Hash then value.to_h { |key, item| [key.to_s, of(item, depth + 1)] }
      when Array then value.map { |item| of(item, depth + 1) }
      when Symbol then value.to_s
      when Module then value.name
      when ActiveSupport::Duration then value.to_f
      else of(value.as_json, depth + 1)
      end
    end
  end
end
