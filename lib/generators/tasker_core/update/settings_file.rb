# frozen_string_literal: true

module TaskerCore
  module Generators
    # An application's `config/tasker-core.yaml`: finds the settings that it does not mention, not even in comments.
    #
    # @api private
    class SettingsFile
      LINE = /\A(?:# ?)?(?<indent> *)(?<key>"\*"|\w+):(?:\s|\z)/
      private_constant :LINE

      # @param text [String]
      def initialize(text)
        @text = text
      end

      # @return [Array<Hash>] the gem's settings that it does not mention, see {Configuration#describe}
      def missing
        gem = Configuration.new({}, variables: {}).describe.fetch(:settings)
        gem.reject { |setting| mentioned.include?(setting[:path]) }
      end

      private

      # Sections below `environments.production` have the same settings as those at the top.
      def mentioned
        @mentioned ||= begin
          above = []
          @text.each_line.filter_map { |line| LINE.match(line) }.flat_map do |found|
            above.reject! { |indent, _| indent >= found[:indent].size }
            above << [found[:indent].size, found[:key].delete('"')]
            path = above.map(&:last)
            [path, path.drop(2)].map { |keys| keys.join(".") }
          end.to_set
        end
      end
    end
  end
end
