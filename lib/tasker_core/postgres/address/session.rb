# frozen_string_literal: true

module TaskerCore
  module Postgres
    # @api private
    module Address
      # The settings that Active Record's adapter applies to each session, as SQL.
      class Session
        # @param configuration [Hash{Symbol => Object}] with the keys of config/database.yml
        def initialize(configuration)
          @configuration = configuration
        end

        # @return [Array<Hash{Symbol => String}>] in the order of their application: `key` in the configuration, `name`
        #   of the setting, and `value` in SQL
        def settings = [*environment, *search_path, *variables]

        private

        # libpq sends PGGEQO at the start of a session.
        def environment
          value = ENV["PGGEQO"].presence
          value ? [setting("PGGEQO", "geqo", quoted(value))] : []
        end

        def search_path
          path = @configuration[:schema_search_path] || @configuration[:schema_order]
          path ? [setting("schema_search_path", "search_path", path.to_s)] : []
        end

        def variables
          (@configuration[:variables] || {}).compact.map do |name, value|
            setting("variables.#{name}", name.to_s, sql(value))
          end
        end

        def setting(key, name, value) = { key: key, name: name, value: value }

        def sql(value)
          case value
          when :default, ":default" then "default"
          when true, false, Numeric then value.to_s
          else quoted(value.to_s)
          end
        end

        # As a string constant that does not depend on `standard_conforming_strings`.
        def quoted(text) = "E'#{text.gsub(/[\\']/) { |special| special * 2 }}'"
      end
    end
  end
end
