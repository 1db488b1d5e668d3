# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # The style sheet of the pages. Its path contains its digest, so that browsers can cache it forever.
    #
    # @api private
    module Stylesheet
      FILE = File.expand_path("../../../app/stylesheets/tasker_core/dashboard.css", __dir__)
      private_constant :FILE

      module_function

      # @return [String]
      def text = @text ||= File.read(FILE, encoding: Encoding::UTF_8).freeze

      # @return [String]
      def digest = @digest ||= Digest::SHA256.hexdigest(text).first(16).freeze
    end
  end
end
