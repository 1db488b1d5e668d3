# frozen_string_literal: true

require "rails/generators"

module TaskerCore
  module Generators
    # `rails g tasker_core:subscriber Pager step.failed`: a class that listens to events, and its test.
    class SubscriberGenerator < ::Rails::Generators::NamedBase
      source_root File.expand_path("templates", __dir__)

      argument :events, type: :array, default: ["task.failed"], banner: "step.failed task.*"

      # @raise [Thor::Error] when an event is not known
      def verify_events
        events.each { |event| TaskerCore.events.native.resolve(event) }
      rescue UnknownEventError => e
        raise Thor::Error, e.message
      end

      def create_subscriber
        template "subscriber.rb.tt", File.join("app/subscribers", class_path, "#{file_name}.rb")
      end

      def create_test
        return template("spec.rb.tt", File.join("spec/subscribers", class_path, "#{file_name}_spec.rb")) if rspec?

        template "test.rb.tt", File.join("test/subscribers", class_path, "#{file_name}_test.rb")
      end

      private

      def rspec? = File.directory?(File.join(destination_root, "spec"))
    end
  end
end
