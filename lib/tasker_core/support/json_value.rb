# frozen_string_literal: true

module TaskerCore
  module Support
    # Converts Ruby values to JSON's types, for inputs, results and event payloads alike. docs/values.md has the table.
    #
    # Invariant: a value is kept exactly, or converted as the table says, or rejected with its path. None becomes null.
    #
    # @api private
    module JsonValue
      # Deeper than any payload may be (limits.payload_depth), and within a thread's stack.
      DEEPEST = 200
      # Beyond it a BigDecimal is written with an exponent: "1e1000000000" must not become a gigabyte of zeros.
      LONGEST_FRACTION = 1000
      NANOSECONDS = 9
      MILLISECONDS = 3
      # Owners of Rails's own `as_json`, which writes null for NaN, whole seconds for durations and {} for what has no
      # form.
      GENERIC = [Object, Enumerable, Struct, *(defined?(::Data) && ::Data.respond_to?(:define) ? [::Data] : [])].freeze
      private_constant :LONGEST_FRACTION, :NANOSECONDS, :MILLISECONDS, :GENERIC

      # A value has no JSON representation. The message begins with the value's path.
      class Unwritable < JSON::GeneratorError
        SHOWN = 8
        private_constant :SHOWN

        # @param what [String] what is wrong with the value, and the remedy
        def initialize(what)
          super
          @what = what
          @path = []
        end

        # Adds the place in a container to the path, while the error is raised through the container.
        # @param place [String, Integer] a field or an index
        # @return [self]
        def below(place)
          @path.unshift(place)
          self
        end

        # @return [String] `items[3].price`, or "" for the outermost value
        def path
          shown = @path.first(SHOWN).map do |place|
            place.is_a?(Integer) ? "[#{place}]" : ".#{place.scrub.truncate(80)}"
          end
          shown << "…" if @path.size > SHOWN
          shown.join.delete_prefix(".")
        end

        def message = path.empty? ? @what : "#{path}: #{@what}"
        alias to_s message
      end

      module_function

      # @param value [Object]
      # @param root [String, nil] the beginning of the path in an error: "result"
      # @return [String] JSON text
      # @raise [Unwritable] when a part of the value has no JSON representation
      def json(value, root = nil) = JSON.generate(of(value, root), max_nesting: 0)

      # As {json}, for a value from a caller of the gem.
      # @param what [String] the value in the error's message: "the payload of order.shipped"
      # @raise [InputError] when a part of the value has no form in JSON
      def input_json(value, root, what = root)
        json(value, root)
      rescue Unwritable => e
        raise InputError.unwritable(what, e)
      end

      # @param value [Object]
      # @param root [String, nil] see {json}
      # @return [Hash, Array, String, Numeric, Boolean, nil] of exactly these classes: a subclass may define its own
      #   `to_json`
      # @raise [Unwritable] when a part of the value has no JSON representation
      def of(value, root = nil)
        convert(value, 0)
      rescue Unwritable => e
        raise root ? e.below(root) : e
      end

      # Parses JSON text that the database has stored: its depth was limited when it came in (limits.payload_depth).
      # @param text [String]
      # @return [Hash, Array, String, Numeric, Boolean, nil] frozen
      def parse(text) = JSON.parse(text, freeze: true, max_nesting: false)

      def convert(value, depth)
        raise Unwritable.new("nested too deeply or inside itself") if depth > DEEPEST

        case value
        when String then text(value)
        when Integer, nil, true, false then value
        when Float then finite(value)
        when Hash then fields(value, depth)
        when Array then items(value, depth)
        when Symbol then text(value.name)
        when Object then other(value, depth)
        else raise Unwritable.new("a BasicObject has no JSON representation")
        end
      end

      def other(value, depth)
        case value
        when BigDecimal, Rational, Complex then number(value)
        when ActiveSupport::Duration then value.value.is_a?(Integer) ? value.value : finite(value.to_f)
        when Time, DateTime, ActiveSupport::TimeWithZone then time(value)
        when Range then range(value, depth)
        when IO then raise Unwritable.new("#{shown(value.class)} has no JSON representation: pass its content")
        when Module then value.name || raise(Unwritable.new("an anonymous class or module has no JSON representation"))
        when Struct then fields(value.to_h, depth)
        else object(value, depth)
        end
      end

      def finite(float)
        return float if float.finite?

        raise Unwritable.new("#{float} (#{float.class}) is not a JSON number: use nil or a string")
      end

      def number(value)
        case value
        when BigDecimal then finite(value).exponent.abs > LONGEST_FRACTION ? value.to_s("E") : value.to_s("F")
        when Complex then value.rectangular.each { |part| finite(part) } && value.to_s
        else value.to_s
        end
      end

      # With milliseconds, as Rails does, or with nanoseconds if the time is more precise.
      def time(value)
        fraction = value.sec_fraction if value.is_a?(DateTime)
        fraction ||= value.subsec
        value.iso8601((fraction * (10**MILLISECONDS)).denominator == 1 ? MILLISECONDS : NANOSECONDS)
      end

      def range(value, depth)
        ends = [value.begin, value.end].map { |limit| limit && convert(limit, depth + 1) }
        ends.join(value.exclude_end? ? "..." : "..")
      end

      # A class's own `as_json` takes precedence; Rails's generic one loses information.
      def object(value, depth)
        owner = Kernel.instance_method(:method).bind_call(value, :as_json).owner
        return convert(value.as_json, depth + 1) unless GENERIC.include?(owner) || serializable?(value, owner)
        return fields(value.serializable_hash, depth) if serializable?(value, owner)
        return items(value.to_a, depth) if owner == Enumerable
        return convert(value.to_hash, depth + 1) if value.respond_to?(:to_hash)
        return convert(value.to_h, depth + 1) if value.respond_to?(:to_h)

        raise Unwritable.new("#{shown(value.class)} has no JSON representation: pass its values, or define as_json " \
                             "or to_h in the class")
      end

      def serializable?(value, owner)
        owner == ActiveModel::Serializers::JSON && !value.include_root_in_json
      end

      def fields(hash, depth)
        plain(hash, Hash).each_with_object({}) do |(key, item), fields|
          name = name(key)
          raise duplicate_key(name) if fields.key?(name)

          fields[name] = convert(item, depth + 1)
        rescue Unwritable => e
          raise e.below(name || "(a name)")
        end
      end

      def duplicate_key(name)
        Unwritable.new("two keys of one Hash are written #{name.inspect.truncate(80)}: keep one")
      end

      def items(array, depth)
        index = -1
        plain(array, Array).map do |item|
          index += 1
          convert(item, depth + 1)
        rescue Unwritable => e
          raise e.below(index)
        end
      end

      # Transcodes text to UTF-8. Binary strings are taken as UTF-8: those of HTTP bodies usually are.
      def text(value)
        utf8 = value.encoding == Encoding::UTF_8 ? value : transcoded(value)
        invalid = "a String that is not valid UTF-8: encode it, in Base64 for instance"
        raise Unwritable.new(invalid) unless utf8.valid_encoding?

        utf8.instance_of?(String) ? utf8 : String.new(utf8)
      end

      def transcoded(value)
        return String.new(value).force_encoding(Encoding::UTF_8) if value.encoding == Encoding::BINARY

        String.new(value).encode(Encoding::UTF_8)
      rescue EncodingError => e
        raise Unwritable.new("a String in #{value.encoding} cannot be written in UTF-8: #{e.message}")
      end

      def name(key)
        case key
        when String, Symbol then text(key.is_a?(Symbol) ? key.name : key)
        when Time, DateTime, ActiveSupport::TimeWithZone then time(key)
        else other_name(key)
        end
      end

      def other_name(key)
        owner = Kernel.instance_method(:method).bind_call(key, :to_s).owner
        return text(key.to_s) unless owner == Kernel

        raise Unwritable.new("a key of the class #{shown(key.class)} has no JSON representation: use a string")
      end

      def shown(type) = (type.name || "an object of a class without a name").to_s

      def plain(value, type) = value.instance_of?(type) ? value : type.new.replace(value)

      private_class_method :convert, :other, :finite, :number, :time, :range, :object, :serializable?, :fields, :items,
                           :duplicate_key, :text, :transcoded, :name, :other_name, :shown, :plain
    end
  end
end
