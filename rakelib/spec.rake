# frozen_string_literal: true

# Yields the URL of a server for tests: DATABASE_URL's, or a private one without fsync.
def with_test_server(&block)
  require_relative "../lib/tasker_core"
  TaskerCore::Development::Database.with_server(fsync: "off", &block)
end

# Rust tests copy this database; nobody may be connected to it meanwhile.
def with_template(url)
  template = TaskerCore::Development::Database.create(url, "tasker_core_template")
  TaskerCore::Development::Database.prepare(template)
  ActiveRecord::Base.remove_connection
  yield template
end

desc "Rust and Ruby tests, on DATABASE_URL or a private PostgreSQL, and a short fault campaign"
task spec: %w[compile:dev] do
  with_test_server do |url|
    ENV["DATABASE_URL"] = url
    Rake::Task["spec:rust"].invoke
    Rake::Task["spec:ruby"].invoke
  end
  Rake::Task["spec:chaos"].invoke
end

namespace :spec do
  desc "Rust tests"
  task rust: %w[compile:dev] do
    with_test_server do |url|
      with_template(url) do |template|
        sh({ "TASKER_TEMPLATE_URL" => template }, "cargo", "test", "--locked", "--workspace", "--exclude", "tasker_core")
      end
    end
  end

  desc "Ruby tests"
  task ruby: %w[compile:dev] do
    with_test_server { |url| sh({ "DATABASE_URL" => url }, "bundle", "exec", "rspec") }
  end

  desc "A fault campaign on the development build; TASKER_CHAOS_MINUTES says how long (2)"
  task chaos: %w[compile:dev] do
    minutes = ENV.fetch("TASKER_CHAOS_MINUTES", "2")
    sh("bundle", "exec", "ruby", "-Ilib", "bench/chaos/campaign.rb", "--minutes", minutes)
  end
end
