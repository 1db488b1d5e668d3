# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # A form field that takes a JSON object.
    #
    # @api private
    module JsonField
      module_function

      # @param text [Object]
      # @return [Hash]
      # @raise [InputError] that names the field
      def object(name, text)
        value = JSON.parse(text, max_nesting: Support::JsonValue::DEEPEST)
        value.is_a?(Hash) ? value : invalid!(name, text)
      rescue JSON::ParserError, EncodingError, TypeError
        invalid!(name, text)
      end

      def invalid!(name, text) = raise(InputError.of(name, text, 'must be a JSON object such as {"order_id": 42}'))
      private_class_method :invalid!
    end
  end
end
