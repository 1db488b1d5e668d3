# frozen_string_literal: true

$LOAD_PATH.unshift File.expand_path("../lib", __dir__)

require "tasker_core"

# The database of this run, on the server of DATABASE_URL or on a private server that stops with the run.
SERVER_URL = ENV["DATABASE_URL"].presence || TaskerCore::Development::PrivatePostgres.new(fsync: "off").start.url
TEST_DATABASE = "tasker_core_test#{ENV['TEST_ENV_NUMBER']}".freeze
ENV["DATABASE_URL"] = TaskerCore::Development::Database.create(SERVER_URL, TEST_DATABASE)
ENV["RAILS_ENV"] = "test"

require_relative "dummy/config/environment"
TaskerCore::Development::Database.prepare(ENV.fetch("DATABASE_URL"))

require "rspec/rails"

Dir["#{__dir__}/support/*.rb"].sort.each { |path| require path }

RSpec.configure do |config|
  config.disable_monkey_patching!
  config.use_transactional_fixtures = false
  config.expect_with(:rspec) { |expectations| expectations.syntax = :expect }
  config.order = :random
  Kernel.srand config.seed
  config.after(:suite) do
    ActiveRecord::Base.connection_handler.clear_all_connections!(:all)
    admin = PG.connect(SERVER_URL)
    admin.exec("drop database if exists #{TEST_DATABASE} with (force)")
    admin.close
  end
end
