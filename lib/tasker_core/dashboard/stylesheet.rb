# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # The pages' one style sheet. Its path has its digest, so that a browser may keep it for ever.
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
