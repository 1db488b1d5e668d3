# frozen_string_literal: true

require "rails/generators"
require "generators/tasker_core/database"
require "generators/tasker_core/generator"
require "generators/tasker_core/install/worker_entries"

module TaskerCore
  module Generators
    # `rails g tasker_core:install`: writes what an application needs to run workflows, and a sample workflow. Existing
    # files are kept.
    #
    # @api private
    class InstallGenerator < ::Rails::Generators::Base
      include Database
      include Generator
      include WorkerEntries

      INITIALIZER = "config/initializers/tasker_core.rb"
      ROUTES = "config/routes.rb"
      SETTINGS = File.expand_path("../../../../config/tasker-core.yaml", __dir__)
      ADDED = "The gem adds a Rack middleware (correlation ids), an id in jobs, and tags on log lines:\n" \
              "#{INITIALIZER} names the settings that turn them off.".freeze
      private_constant :INITIALIZER, :ROUTES, :SETTINGS, :ADDED

      source_root File.expand_path("templates", __dir__)

      desc "Writes migrations, settings, bin/tasker, a route and a sample workflow with its test, and adds the " \
           "worker to Procfile, Procfile.dev and bin/dev. Keeps existing files."

      class_option :database, type: :string,
                              desc: "Database in config/database.yml for the tables (default: the primary one)"
      class_option :skip_route, type: :boolean, default: false, desc: "Do not mount the API and the dashboard"
      class_option :skip_worker, type: :boolean, default: false,
                                 desc: "Do not add the worker to Procfile, Procfile.dev and bin/dev"
      class_option :skip_sample, type: :boolean, default: false, desc: "Do not write the sample workflow"

      # @raise [Thor::Error] when the tables cannot be in the database
      def verify_database
        database
      end

      def copy_migrations
        copy_missing_migrations
      end

      def create_initializer
        template "initializer.rb.tt", INITIALIZER, skip: true
        return if behavior == :revoke || ApplicationRecord.connection_db_config.name == database.name

        append_to_file INITIALIZER, <<~RUBY

          # The tables are in a database of their own, and tasks are created in its transactions.
          Rails.application.config.tasker_core.connects_to = { database: { writing: #{database.name.to_sym.inspect} } }
        RUBY
      end

      def create_settings
        template "tasker-core.yaml.tt", "config/tasker-core.yaml", skip: true
      end

      def create_command
        template "tasker.tt", "bin/tasker", skip: true
        chmod "bin/tasker", 0o755, verbose: false unless behavior == :revoke
      end

      def add_worker
        return remove_worker_entries if behavior == :revoke

        add_worker_entries unless options[:skip_worker]
      end

      def mount_engine
        return if options[:skip_route] || (behavior == :invoke && mounted?)

        route %(mount TaskerCore::Engine => "/tasker")
      end

      def create_sample
        return if options[:skip_sample]

        template "sample_greeting.rb.tt", "app/workflows/sample_greeting.rb", skip: true
        generate_test "workflows/sample_greeting", skip: true
      end

      def print_next_steps
        say next_commands if behavior == :invoke
      end

      private

      def mounted? = Support::Utf8.read(File.join(destination_root, ROUTES)).include?("TaskerCore::Engine")

      # The gem's own file, commented out, without its first lines, which are for the gem's authors.
      def settings_commented_out = Support::Utf8.read(SETTINGS).split("\n\n", 2).last.gsub(/^(?!#)(?=.)/, "# ")

      def next_commands
        commands = [["bin/rails db:migrate", "creates the tables"], ["bin/tasker work", "runs steps until Ctrl-C"],
                    *(sample_commands unless options[:skip_sample])]
        width = commands.map { |command, _| command.size }.max
        lines = commands.map { |command, purpose| "  #{command.ljust(width)}   # #{purpose}" }
        ["", "Next steps:", "", *lines, "", ADDED, ""].join("\n")
      end

      def sample_commands
        [[%q(bin/rails runner 'p SampleGreeting.create!(name: "Ada").wait(timeout: 60).results'),
          "creates a task (in another terminal)"],
         [rspec? ? "bundle exec rspec spec/workflows" : "bin/rails test test/workflows", "runs the sample's test"]]
      end
    end
  end
end
