# frozen_string_literal: true

module TaskerCore
  module V1
    # Checks the parameters of a request against the names and types that an action takes. A null counts as missing.
    module Parameters
      # A remedy, and a function that converts the value, or returns nil if its form is wrong.
      Type = Struct.new(:remedy, :reading) do
        def read(value) = reading.call(value)
      end

      TEXT = ->(value) { value if value.is_a?(String) && value.valid_encoding? && !value.include?("\0") }
      NAME = ->(value) { value if TEXT.call(value)&.match?(/\A\w+\z/) }
      TIME = ->(value) { Support::TimeParser.read(value) if TEXT.call(value) }
      OBJECT = ->(value) { value if value.is_a?(Hash) }
      WORDS = ->(values) { values.flat_map { |value| value.empty? ? [value] : value.split(",", -1) } }
      NUMBER = /\A\d{1,19}\z/
      LARGEST = (2**63) - 1
      private_constant :TEXT, :NAME, :TIME, :OBJECT, :WORDS, :NUMBER, :LARGEST

      BODY = {
        text: Type.new("must be a string without null characters", TEXT),
        name: Type.new("must be letters, digits and underscores", NAME),
        texts: Type.new("must be an array of strings", ->(value) { value if value.is_a?(Array) && value.all?(&TEXT) }),
        integer: Type.new("must be an integer", ->(value) { value if value.is_a?(Integer) }),
        object: Type.new("must be an object", OBJECT),
        time: Type.new("must be #{Support::TimeParser::EXAMPLES}", TIME)
      }.freeze

      # Types of all values of a name in a query string.
      QUERY = {
        text: Type.new("must be one text", ->(values) { TEXT.call(values.first) if values.one? }),
        texts: Type.new("must be strings", ->(values) { values if values.all?(&TEXT) }),
        words: Type.new("must be words, with commas between", WORDS),
        number: Type.new("must be a number", lambda { |values|
          number = values.first.to_i if values.one? && values.first.match?(NUMBER)
          number if number && number <= LARGEST
        }),
        object: Type.new("must be a JSON object", ->(values) { OBJECT.call(JSON.parse(values.first)) if values.one? })
      }.freeze
      private_constant :BODY, :QUERY

      module_function

      # @param given [Hash{String => Object}]
      # @param types [Hash{Symbol => Symbol}] by name
      # @return [Hash{Symbol => Object}] the given parameters
      # @raise [ParameterError] that names the invalid parameter
      def of_body(given, **types) = parsed(given, types.transform_values { |type| BODY.fetch(type) }, &:itself)

      # @param text [String] `a=1&b=2&b=3`; b[] is the same as b. See {of_body}.
      # @raise [ParameterError] that names the invalid parameter
      # @raise [RequestError] if it is not a valid query string
      def of_query(text, **types)
        given = decoded(text).group_by { |name, _| name.delete_suffix("[]") }
                             .transform_values { |pairs| pairs.map(&:last) }
        parsed(given, types.transform_values { |type| QUERY.fetch(type) }) { |all| all.one? ? all.first : all }
      end

      # @param given [Hash{Symbol => Object}] with limit, or without
      # @return [Integer] rows of a page
      # @raise [ParameterError] if it exceeds the maximum page size
      def page_size(given)
        most = TaskerCore.config[:api, :max_page_size]
        limit = given.fetch(:limit) { TaskerCore.config[:api, :page_size] }
        return limit if limit.between?(1, most)

        raise ParameterError.of(:limit, limit, "must be 1 to #{most}: api.max_page_size is the limit")
      end

      # @return [Array<Array(String, String)>] names and values
      def decoded(text)
        URI.decode_www_form(text).each do |pair|
          raise ArgumentError, "no UTF-8" unless pair.all?(&:valid_encoding?)
        end
      rescue ArgumentError => e
        raise RequestError.new("the query string cannot be read: #{e.message}")
      end

      # @yieldparam value [Object] of a parameter
      # @yieldreturn [Object] the value as an error shows it
      def parsed(given, types)
        given.each { |name, value| types.key?(name.to_sym) || raise(unknown(name, yield(value), types.keys)) }
        given.compact.to_h do |name, value|
          type = types.fetch(name.to_sym)
          read = type.read(value)
          raise ParameterError.of(name, yield(value), type.remedy) if read.nil?

          [name.to_sym, read]
        rescue ArgumentError, RangeError, JSON::ParserError
          raise ParameterError.of(name, yield(value), type.remedy)
        end
      end

      def unknown(name, value, known)
        remedy = Support::Spelling.remedy(name, known.map(&:to_s))
        ParameterError.of(name, value, "is an unknown parameter: #{remedy}")
      end
      private_class_method :decoded, :parsed, :unknown
    end
  end
end
