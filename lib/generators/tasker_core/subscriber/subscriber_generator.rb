# frozen_string_literal: true

require "rails/generators"
require "generators/tasker_core/generator"

module TaskerCore
  module Generators
    # `rails g tasker_core:subscriber Pager step.failed`: writes a class that subscribes to events, and its test.
    #
    # @api private
    class SubscriberGenerator < ::Rails::Generators::NamedBase
      include Generator

      source_root File.expand_path("templates", __dir__)

      desc "Writes a class that subscribes to events, and its test."

      argument :events, type: :array, default: ["task.failed"], banner: "step.failed task.*"

      # @raise [Thor::Error] when an event is unknown
      def verify_events
        events.each { |event| TaskerCore.events.native.resolve(event) }
      rescue UnknownEventError => e
        raise Thor::Error, e.message
      end

      def create_subscriber
        template "subscriber.rb.tt", File.join("app/subscribers", class_path, "#{file_name}.rb")
      end

      def create_test
        generate_test File.join("subscribers", class_path, file_name)
      end
    end
  end
end
