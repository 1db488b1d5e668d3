# frozen_string_literal: true

require "open3"

# A Rails application in one script, for settings that can be made only once in a process.
module HostScript
  # @param directory [String] its root
  # @param settings [String] in the application's class
  # @param script [String] runs after the initialization
  # @param database [String] the URL
  # @return [String] the script's output
  def run_host(directory, script:, database:, settings: "", variables: {})
    file = File.join(directory, "host.rb")
    File.write(file, <<~RUBY)
      require "bundler/setup"
      require "rails"
      require "active_record/railtie"
      require "action_controller/railtie"
      require "tasker_core"
      class Host < Rails::Application
        config.root = #{directory.inspect}
        config.load_defaults Rails::VERSION::STRING.to_f
        config.eager_load = false
        config.secret_key_base = "a host's"
        config.logger = ActiveSupport::Logger.new(nil)
        config.hosts.clear
        config.active_record.maintain_test_schema = false
        config.paths["db/migrate"] << "#{root}/db/migrate"
        config.after_initialize { TaskerCore.authenticate_with { "ada" } }
        routes.append { mount TaskerCore::Engine => "/flows" }
        #{settings}
      end
      Host.initialize!
      ActiveRecord::Migration.verbose = false
      def migrate = ActiveRecord::MigrationContext.new("#{root}/db/migrate").migrate
      #{script}
    RUBY
    variables = { "RAILS_ENV" => "test", "BUNDLE_GEMFILE" => "#{root}/Gemfile", "DATABASE_URL" => database,
                  **variables }
    out, status = Open3.capture2e(variables, RbConfig.ruby, "-I#{root}/lib", file, chdir: directory)
    expect(status).to be_success, out
    out
  end

  # Creates a database and drops it after the block.
  def with_database(name)
    yield TaskerCore::Development::Database.create(SERVER_URL, name)
  ensure
    PG.connect(SERVER_URL).then { |admin| admin.exec("drop database if exists #{name} with (force)") && admin.close }
  end
end

RSpec.configure { |config| config.include HostScript }
