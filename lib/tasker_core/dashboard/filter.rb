# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # The filters of the list of tasks, as text from the fields of its form. Blank fields are ignored.
    #
    # @api private
    class Filter
      FIELDS = %w[state status namespace workflow version tags since until correlation_id input].freeze
      # Parameters of the page itself.
      PAGE = %w[after refresh].freeze
      private_constant :FIELDS, :PAGE

      # @param given [Hash{String => Object}] query parameters
      def initialize(given)
        @unknown = given.except(*FIELDS, *PAGE)
        fields = given.slice(*FIELDS)
        @given = fields.transform_values { |value| value.is_a?(Array) ? value.compact_blank : value }.compact_blank
      end

      # @return [Boolean]
      def any? = @given.any?

      # @return [String] a field's value, to show it again
      def [](field) = Array(@given[field]).grep(String).join(" ")

      # @return [Boolean]
      def state?(state) = Array(@given["state"]).include?(state)

      # @return [Boolean]
      def status?(status) = Array(@given["status"]).include?(status)

      # @return [Hash{String => Object}] query parameters of another page
      def to_h = @given

      # @return [Operations::TaskSearch]
      # @raise [InputError] that names the invalid field
      def search
        Operations::TaskSearch.new(@unknown.merge(@given, "tags" => tags, "input" => input).compact.symbolize_keys)
      end

      private

      def tags = @given["tags"].is_a?(String) ? @given["tags"].split(/[\s,]+/) : @given["tags"]

      def input = @given["input"] && JsonField.object("input", @given["input"])
    end
  end
end
