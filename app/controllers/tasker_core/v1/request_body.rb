# frozen_string_literal: true

module TaskerCore
  module V1
    # The body of a request: one JSON object, or empty. It reads up to the limit and checks the media type.
    class RequestBody
      # @param limit [Integer] bytes
      def initialize(request, limit:)
        @request = request
        @limit = limit
      end

      # @return [Hash{String => Object}]
      # @raise [RequestError] if it is too long, not JSON, or not an object
      def to_h
        text = read
        return {} if text.empty?

        verify_type
        value = parse(text)
        return value if value.is_a?(Hash)

        raise RequestError.new("the body must be a JSON object: it is #{value.class}")
      end

      private

      def read
        stream = @request.body
        stream.rewind if stream.respond_to?(:rewind) # a middleware may have read it
        text = stream&.read(@limit + 1).to_s
        return text.dup.force_encoding(Encoding::UTF_8) unless text.bytesize > @limit

        raise RequestTooLargeError.new("the body is longer than #{@limit} bytes: api.body_bytes is the limit")
      end

      def verify_type
        type = @request.media_type.to_s
        return if type.match?(%r{\Aapplication/([\w.-]+\+)?json\z})

        raise MediaTypeError.new("Content-Type: #{type.inspect} must be application/json")
      end

      def parse(text)
        raise RequestError.new("the body is not UTF-8") unless text.valid_encoding?

        JSON.parse(text, max_nesting: Support::JsonValue::DEEPEST)
      rescue JSON::ParserError => e
        raise RequestError.new("the body is not JSON: #{e.message.truncate(200)}")
      end
    end
  end
end
