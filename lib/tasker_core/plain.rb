# frozen_string_literal: true

module TaskerCore
  # From the Ruby values that people write (durations, symbols, classes, times) to those that JSON has.
  # Integers of any size stay exact; what has no meaning in JSON raises instead of becoming null.
  module Plain
    # Deeper than any payload may be (limits.payload_depth), and than a thread's stack is not.
    DEEPEST = 200
    private_constant :DEEPEST

    module_function

    # @return [String] JSON text
    # @raise [JSON::JSONError] for NaN, infinity, text that is not UTF-8, and values that contain themselves
    def json(value)
      JSON.generate(of(value), max_nesting: 0)
    rescue EncodingError => e
      raise JSON::GeneratorError, e.message
    end

    # @return [Hash, Array, String, Numeric, Boolean, nil] of these very classes: a subclass may write itself otherwise
    # @raise [JSON::JSONError] for values without a form, and values that contain themselves
    def of(value, depth = 0)
      raise JSON::NestingError, "nested too deeply, or in itself" if depth > DEEPEST

      case value
      when nil, true, false, Integer, Float then value
      when String then value.instance_of?(String) ? value : String.new(value)
      when Hash then plain(value, Hash).to_h { |key, item| [name(key), of(item, depth + 1)] }
      when Array then plain(value, Array).map { |item| of(item, depth + 1) }
      when Symbol then value.to_s
      when Module then value.name
      when ActiveSupport::Duration then value.to_f
      when Object then of(value.as_json, depth + 1)
      else raise JSON::GeneratorError, "a BasicObject has no form in JSON"
      end
    end

    def name(key) = String.new(key.is_a?(String) ? key : key.to_s)

    def plain(value, type) = value.instance_of?(type) ? value : type.new.replace(value)
    private_class_method :name, :plain
  end
end
