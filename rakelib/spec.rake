# frozen_string_literal: true

require_relative "called_functions"

# Yields the URL of a server for tests: DATABASE_URL, or a private server without fsync.
def with_test_server(&block)
  require_relative "../lib/tasker_core"
  TaskerCore::Development::Database.with_server(fsync: "off", track_functions: "all", &block)
end

# Rust tests copy this database, which is possible only without connections to it.
def with_template(url)
  template = TaskerCore::Development::Database.create(url, "tasker_core_template")
  TaskerCore::Development::Database.prepare(template)
  ActiveRecord::Base.remove_connection
  yield template
end

RUNTIMES = "spec/runtimes.log"

# Those that call most of the public API; the others would only repeat the calls.
SIGNATURE_SPECS = %w[spec/unit/workflow_spec.rb spec/unit/configuration_spec.rb spec/integration/testing_spec.rb
                     spec/integration/events_spec.rb spec/integration/results_spec.rb spec/integration/graph_spec.rb
                     spec/integration/diagnosis_spec.rb spec/integration/operations/operator_spec.rb
                     spec/requests/steps_spec.rb spec/integration/doctor_spec.rb].freeze

desc "Rust and Ruby tests, on DATABASE_URL or a private PostgreSQL, and a short fault campaign"
task spec: %w[compile:dev] do
  %w[spec:rust spec:ruby spec:signatures spec:chaos].each { |task| Rake::Task[task].invoke }
end

namespace :spec do
  desc "Rust tests"
  task rust: %w[compile:dev] do
    with_test_server do |url|
      with_template(url) do |template|
        CalledFunctions.check do |record|
          sh({ "TASKER_TEMPLATE_URL" => template, **record },
             "cargo", "test", "--locked", "--workspace", "--exclude", "tasker_core")
        end
      end
    end
  end

  # Does not build the extension, which these tests do not use.
  desc "Rust tests of one crate (lib, orchestration, sql_functions, …) whose names contain one of some words"
  task :one, %i[crate name] do |_, given|
    target = given[:crate] == "lib" ? ["--lib"] : ["--test", given.fetch(:crate)]
    names = given[:name].to_s.split
    with_test_server do |url|
      with_template(url) do |template|
        test = lambda do |record = {}|
          sh({ "TASKER_TEMPLATE_URL" => template, **record },
             "cargo", "test", "--locked", "--package", "tasker_orchestrator", *target, "--", *names)
        end
        given[:crate] == "sql_functions" && names.empty? ? CalledFunctions.check(&test) : test.call
      end
    end
  end

  desc "The database that Rust tests copy, until standard input ends; prints its URL"
  task :serve do
    with_test_server do |url|
      with_template(url) do |template|
        $stdout.puts(template)
        $stdout.flush
        $stdin.read
      end
    end
  end

  desc "Random workflows until TASKER_COMMITS commits have been checked; see bin/random-workflows"
  task :random_workflows do
    tests = %w[every_commit_keeps concurrent_sessions_keep]
    with_test_server do |url|
      with_template(url) do |template|
        sh({ "TASKER_TEMPLATE_URL" => template }, "cargo", "test", "--locked", "--package", "tasker_orchestrator",
           "--test", "random_workflows_test", "--", "--nocapture", *tests)
      end
    end
  end

  desc "Ruby tests, with one process per core; each process has its own server unless DATABASE_URL names one"
  task ruby: %w[compile:dev] do
    # Request specs run in one process, because they compare the API's description with all their responses. The others
    # are distributed by the seconds in RUNTIMES, written with `-- --format ParallelTests::RSpec::RuntimeLogger --out
    # FILE --`.
    sh("bundle", "exec", "parallel_rspec", "--single", "spec/requests", "--group-by", "runtime",
       "--runtime-log", RUNTIMES, "--allowed-missing", "100", "spec")
  end

  desc "Checks calls of the public API against its signatures in sig, while some of the Ruby tests run"
  task signatures: %w[compile:dev] do
    Dir.mktmpdir do |directory|
      violations = "#{directory}/violations"
      FileUtils.touch(violations)
      sh({ "SIGNATURE_VIOLATIONS" => violations }, "bundle", "exec", "rspec", "--require",
         "./spec/support/signatures/check.rb", *SIGNATURE_SPECS)
      found = File.readlines(violations, chomp: true).tally
      abort ["calls contradict sig:", *found.map { |text, count| "#{count} times #{text}" }].join("\n") if found.any?
    end
  end

  desc "Installs both gems from their files: the source gem with cargo, the precompiled gem without it (minutes)"
  task packages: %w[native gem] do
    files = { "SOURCE_GEM" => GEMSPEC.file_name,
              "PRECOMPILED" => "#{GEMSPEC.full_name}-#{PrecompiledGem.platform}.gem" }
    sh(files.transform_values { |name| "#{CHECKOUT}/#{PACKAGES}/#{name}" }, "bundle", "exec", "rspec",
       "spec/integration/applications/source_gem_spec.rb", "spec/integration/applications/precompiled_gem_spec.rb")
  end

  desc "A fault campaign on the development build for TASKER_CHAOS_MINUTES (1), and for a quarter of that one with " \
       "each queue of Active Job, and one with three hosts if network namespaces are permitted; each with a fail-over"
  task chaos: %w[compile:dev] do
    require_relative "../bench/chaos/network"
    minutes = ENV.fetch("TASKER_CHAOS_MINUTES", "1").to_f
    campaign = ["bundle", "exec", "ruby", "-Ilib", "bench/chaos/campaign.rb", "--fail-overs", "1", "--minutes"]
    sh(*campaign, minutes.to_s)
    %w[sidekiq solid_queue good_job].each { |adapter| sh(*campaign, (minutes / 4).to_s, "--dispatch", adapter) }
    begin
      Chaos::Network.verify
      sh(*campaign, (minutes / 4).to_s, "--hosts", "3")
    rescue Chaos::Network::Unavailable => e
      puts "the campaign with hosts is skipped: #{e.message}"
    end
  end
end
