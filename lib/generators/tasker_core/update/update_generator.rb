# frozen_string_literal: true

require "rails/generators"
require "generators/tasker_core/database"
require "generators/tasker_core/generator"
require "generators/tasker_core/update/settings_file"

module TaskerCore
  module Generators
    # `rails g tasker_core:update`, after an update of the gem: copies missing migrations, and prints new settings and
    # the commands to run.
    #
    # @api private
    class UpdateGenerator < ::Rails::Generators::Base
      include Database
      include Generator

      SETTINGS = "config/tasker-core.yaml"
      private_constant :SETTINGS

      desc "After an update of the gem: copies missing migrations, and prints new settings and the commands to run."

      def copy_migrations
        @copied = copy_missing_migrations
      end

      def print_settings
        path = File.join(destination_root, SETTINGS)
        unknown = File.file?(path) ? SettingsFile.new(Support::Utf8.read(path)).missing : []
        return if unknown.empty?

        say "\nSettings missing from #{SETTINGS}:\n\n"
        unknown.each do |setting|
          line, comment = [%i[path written], %i[allowed reason]].map { |keys| setting.values_at(*keys) }
          say "  #{line.join(': ')}   # #{comment.join('; ')}"
        end
      end

      def print_next_steps
        say "\nNext steps:\n\n"
        say "  bin/rails db:migrate" if @copied.any?
        say "  bin/rails tasker_core:functions:install   # before workers of this version start\n\n"
      end
    end
  end
end
