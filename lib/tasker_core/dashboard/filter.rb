# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # What a form asks the list of tasks for, as its fields have it: text, of which what is blank does not count.
    #
    # @api private
    class Filter
      FIELDS = %w[state status namespace workflow version tags since until correlation_id input].freeze
      # Of the page that shows what is found.
      PAGE = %w[after refresh].freeze
      private_constant :FIELDS, :PAGE

      # @param given [Hash{String => Object}] a query's parameters
      def initialize(given)
        @unknown = given.except(*FIELDS, *PAGE)
        @given = given.slice(*FIELDS).transform_values { |value| value.is_a?(Array) ? value.compact_blank : value }.compact_blank
      end

      # @return [Boolean]
      def any? = @given.any?

      # @return [String] what a field had, to be shown again
      def [](field) = Array(@given[field]).grep(String).join(" ")

      # @return [Boolean]
      def state?(state) = Array(@given["state"]).include?(state)

      # @return [Boolean]
      def status?(status) = Array(@given["status"]).include?(status)

      # @return [Hash{String => Object}] for the path of another page
      def to_h = @given

      # @return [Operations::TaskSearch]
      # @raise [InputError] that names the field
      def search = Operations::TaskSearch.new(@unknown.merge(@given, "tags" => tags, "input" => input).compact.symbolize_keys)

      private

      def tags = @given["tags"].is_a?(String) ? @given["tags"].split(/[\s,]+/) : @given["tags"]

      def input = @given["input"] && JsonField.object("input", @given["input"])
    end
  end
end
