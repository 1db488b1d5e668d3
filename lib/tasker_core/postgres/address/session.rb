# frozen_string_literal: true

module TaskerCore
  module Postgres
    # @api private
    module Address
      # The settings that Active Record's adapter gives each of its sessions, as SQL.
      class Session
        # @param configuration [Hash{Symbol => Object}] with the keys of config/database.yml
        def initialize(configuration)
          @configuration = configuration
        end

        # @return [Array<Hash{Symbol => String}>] in the order in which they are made: where it stands, the setting's name, and
        #   its value in SQL
        def settings = [*environment, *search_path, *variables]

        private

        # libpq sends it at the start of a session.
        def environment
          value = ENV["PGGEQO"].presence
          value ? [setting("PGGEQO", "geqo", quoted(value))] : []
        end

        def search_path
          path = @configuration[:schema_search_path] || @configuration[:schema_order]
          path ? [setting("schema_search_path", "search_path", path.to_s)] : []
        end

        def variables
          (@configuration[:variables] || {}).compact.map { |name, value| setting("variables.#{name}", name.to_s, sql(value)) }
        end

        def setting(key, name, value) = { key: key, name: name, value: value }

        def sql(value)
          case value
          when :default, ":default" then "default"
          when true, false, Numeric then value.to_s
          else quoted(value.to_s)
          end
        end

        # As a string constant, whatever `standard_conforming_strings` is.
        def quoted(text) = "E'#{text.gsub(/[\\']/) { |special| special * 2 }}'"
      end
    end
  end
end
