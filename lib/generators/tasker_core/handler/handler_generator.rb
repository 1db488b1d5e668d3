# frozen_string_literal: true

require "rails/generators"
require "generators/tasker_core/generator"

module TaskerCore
  module Generators
    # `rails g tasker_core:handler ChargeCard`: writes a handler class and its test.
    #
    # @api private
    class HandlerGenerator < ::Rails::Generators::NamedBase
      include Generator

      source_root File.expand_path("templates", __dir__)
      check_class_collision

      desc "Writes a handler class and its test."

      def create_handler
        template "handler.rb.tt", File.join("app/handlers", class_path, "#{file_name}.rb")
      end

      def create_test
        generate_test File.join("handlers", class_path, file_name)
      end
    end
  end
end
