# frozen_string_literal: true

require "rails/generators"
%w[handler install subscriber update workflow].each do |name|
  require "generators/tasker_core/#{name}/#{name}_generator"
end
require "tmpdir"

# What the generators reject and write, in a directory without an application. The generated applications of
# generated_applications_spec.rb run what they write.
RSpec.describe TaskerCore::Generators do
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }

  def generate(name, *arguments, behavior: :invoke)
    generator = described_class.const_get("#{name}_generator".camelize)
    generator.start(arguments, destination_root: @directory, behavior: behavior, shell: Thor::Shell::Basic.new)
  end

  # The output on the command line, or the error and the exit status.
  def output_of(...)
    before = [$stdout, $stderr]
    $stdout, $stderr = printed = [StringIO.new, StringIO.new]
    generate(...)
    printed.first.string
  rescue SystemExit => e
    "#{printed.last.string.strip} (#{e.status})"
  ensure
    $stdout, $stderr = before
  end

  def written(path) = File.read(File.join(@directory, path))

  def files = Dir.glob("**/*", base: @directory).select { |path| File.file?(File.join(@directory, path)) }

  # An application with routes only.
  def routes(text = "Rails.application.routes.draw do\nend\n")
    FileUtils.mkdir_p(File.join(@directory, "config"))
    File.write(File.join(@directory, "config/routes.rb"), text)
  end

  it "reject unknown arguments and options" do
    unexpected = "unexpected argument: bin/rails generate tasker_core"
    refused = {
      %w[handler charge_card amount] => /\Aamount: #{unexpected}:handler NAME \[options\] \(1\)\z/,
      %w[install now] => /\Anow: #{unexpected}:install \[options\] \(1\)\z/,
      %w[update --pretend 0.2] => /\A0.2: #{unexpected}:update \[options\] \(1\)\z/,
      %w[handler charge_card --forse] => /"--forse".*"--force".*\(1\)/m,
      %w[workflow fulfillment --namespac shop] => /"--namespac".*"--namespace".*\(1\)/m
    }
    refused.each { |arguments, message| expect(output_of(*arguments)).to match message }
    expect(files).to be_empty
  end

  it "accept arguments after options" do
    output_of("subscriber", "pager", "--force", "step.failed")
    expect(written("app/subscribers/pager.rb")).to include 'subscribe_to "step.failed"'
  end

  describe "subscriber" do
    it "writes a listening subscriber and its test" do
      output_of("subscriber", "billing/pager", "step.failed", "task.*")
      code = written("app/subscribers/billing/pager.rb")
      expect(code).to include("class Billing::Pager < TaskerCore::Subscriber", 'subscribe_to "step.failed", "task.*"')
      stub_const("Billing", Module.new)
      eval(code, TOPLEVEL_BINDING) # rubocop:disable Security/Eval
      expect(TaskerCore.events.listeners?("step.failed")).to be true
      fields = { "id" => "1", "name" => "step.failed", "occurred_at" => 0, "payload" => { "task_id" => 1 } }
      expect(Billing::Pager.new.call(TaskerCore::Event.new(fields))).to be true
      expect(written("test/subscribers/billing/pager_test.rb"))
        .to include "class Billing::PagerTest < ActiveSupport::TestCase"
    ensure
      Billing::Pager.unsubscribe
    end

    it "writes a spec where specs exist, and rejects unknown events" do
      Dir.mkdir(File.join(@directory, "spec"))
      output_of("subscriber", "pager")
      expect(written("spec/subscribers/pager_spec.rb")).to include "RSpec.describe Pager do"
      expect(output_of("subscriber", "other", "step.faild")).to match(/did you mean `step.failed`.* \(1\)/)
      expect(files.grep(/other/)).to be_empty
    end
  end

  describe "workflow" do
    it "rejects an invalid workflow without writing anything" do
      refused = {
        %w[a:b] => /depends_on.*"b".*\(1\)/m,
        %w[a:b b:a] => /the dependencies form a cycle: a → b → a \(1\)/,
        %w[a a] => /"a"/,
        %w[Charge-Card] => /must be up to 100 lower-case letters/,
        %w[a --namespace Shop] => /namespace: "Shop"/,
        %w[display] => /step display: every object has a method of this name: rename the step, or use --yaml/,
        %w[initialize] => /step initialize: every object has a method of this name/
      }
      refused.each { |arguments, message| expect(output_of("workflow", "fulfillment", *arguments)).to match message }
      expect(output_of("workflow", "diamond", "a")).to match(/'Diamond' is either already used/)
      expect(files).to be_empty
    end

    it "quotes texts that YAML would convert" do
      output_of("workflow", "shop/switch", "on", "null:on", "display:on,null", "--yaml", "--namespace", "no")
      file = TaskerCore::Workflows::YamlFile.new(File.join(@directory, "config/tasker/workflows/shop_switch.yaml"))
      expect(file.namespace).to eq "no"
      expect(file.compiled.name).to eq "switch"
      expect(file.definition.fetch("steps").map(&:values))
        .to eq [["on", "Shop::Switch::On"], ["null", "Shop::Switch::Null", ["on"]],
                ["display", "Shop::Switch::Display", %w[on null]]]
      expect(files).to include("app/handlers/shop/switch/display.rb", "test/workflows/shop/switch_test.rb")
    end
  end

  describe "install" do
    it "leaves out skipped parts and mounts the engine once" do
      routes
      output_of("install", "--skip-route", "--skip-sample")
      expect(written("config/routes.rb")).not_to include "TaskerCore"
      expect(files.grep(/sample/)).to be_empty
      expect(output_of("install", "--skip-sample")).not_to include "SampleGreeting"
      expect(written("config/routes.rb")).to include %(  mount TaskerCore::Engine => "/tasker"\n)

      routes(own = "Rails.application.routes.draw do\n  constraints(Staff) { mount(TaskerCore::Engine, " \
                   "at: '/jobs') }\nend\n")
      output_of("install")
      expect(written("config/routes.rb")).to eq own
    end

    it "writes every setting, commented out, with user comments only" do
      routes
      output_of("install")
      text = written("config/tasker-core.yaml")
      expect(YAML.safe_load(text)).to be_nil
      expect(text).not_to include "This file is the only place"
      given = text.split("\n\n").drop(2).join("\n").gsub(/^# (?=\w+:|  )/, "")
      expect(YAML.safe_load(given)).to eq YAML.safe_load_file("config/tasker-core.yaml")
      expect(described_class::SettingsFile.new(text).missing).to be_empty
    end

    it "names what it adds and the settings that disable it" do
      routes
      expect(output_of("install")).to include "config/initializers/tasker_core.rb names the settings that turn them off"
      initializer = written("config/initializers/tasker_core.rb")
      settings = initializer.scan(/\((?:\w+\.\w+(?:, )?)+\)/).flat_map { |found| found.scan(/(\w+)\.(\w+)/) }
      expect(settings)
        .to eq [%w[correlation middleware], %w[correlation header], %w[correlation jobs], %w[logging tags]]
      settings.each { |path| expect { TaskerCore.config[*path.map(&:to_sym)] }.not_to raise_error }
    end

    it "keeps files that the application has changed" do
      routes
      output_of("install")
      edited = %w[config/tasker-core.yaml config/initializers/tasker_core.rb
                  app/workflows/sample_greeting.rb bin/tasker]
      edited.each { |path| File.write(File.join(@directory, path), "# mine\n") }
      output_of("install")
      expect(edited.map { |path| written(path) }.uniq).to eq ["# mine\n"]
      expect(File.stat(File.join(@directory, "bin/tasker")).mode.to_s(8)).to end_with "755"
    end

    it "writes nothing with --pretend and revokes all but migrations" do
      routes
      output_of("install", "--pretend")
      expect(files).to eq ["config/routes.rb"]
      output_of("install")
      output_of("install", behavior: :revoke)
      expect(files).to match_array ["config/routes.rb", *files.grep(%r{\Adb/migrate/})]
      expect(files.size).to eq 1 + Dir[File.expand_path("../../../db/migrate/*.rb", __dir__)].size
      expect(written("config/routes.rb")).not_to include "TaskerCore"
    end

    describe "with files that start processes" do
      def file(path, text)
        FileUtils.mkdir_p(File.dirname(File.join(@directory, path)))
        File.write(File.join(@directory, path), text)
      end

      before { routes }

      it "adds the worker once, and leaves other lines alone" do
        file("Procfile", web = "web: bin/rails server -p $PORT")
        file("Procfile.dev", dev = "web: bin/rails server\n# css\ncss: yarn build --watch\n\nworker: sidekiq\n")
        2.times { output_of("install") }
        expect(written("Procfile")).to eq "#{web}\nworker: bin/tasker work\n"
        expect(written("Procfile.dev")).to eq "#{dev}tasker: bin/tasker work\n"
        expect(files.grep(%r{bin/dev})).to be_empty
        output_of("install", behavior: :revoke)
        expect([written("Procfile"), written("Procfile.dev")]).to eq ["#{web}\n", dev]
      end

      it "keeps a worker that the application has, or has commented out" do
        ["tasker: bundle exec tasker work --threads 9\n", "# worker: bin/tasker work\n"].each do |text|
          file("Procfile", text)
          output_of("install")
          expect(written("Procfile")).to eq text
        end
      end

      it "starts the worker in a bin/dev without foreman, with its mode" do
        file("bin/dev", %(#!/usr/bin/env ruby\n# mine\nexec "./bin/rails", "server", *ARGV\n))
        File.chmod(0o755, File.join(@directory, "bin/dev"))
        2.times { output_of("install") }
        expect(written("bin/dev").lines).to eq [
          "#!/usr/bin/env ruby\n", "# mine\n",
          %(spawn "bin/tasker", "work", "--parent", Process.pid.to_s # until the web server ends\n),
          %(exec "./bin/rails", "server", *ARGV\n)
        ]
        expect(File.stat(File.join(@directory, "bin/dev")).mode.to_s(8)).to end_with "755"
        output_of("install", behavior: :revoke)
        expect(written("bin/dev").lines.size).to eq 3
      end

      it "leaves all of them alone on request, with foreman, and with Puma's plugin" do
        foreman = %(#!/usr/bin/env sh\nexec foreman start -f Procfile.dev "$@"\n)
        file("bin/dev", foreman)
        file("Procfile", "web: x\n")
        output_of("install", "--skip-worker")
        file("config/puma.rb", "plugin :tasker_core if ENV['X']\n")
        output_of("install")
        expect([written("bin/dev"), written("Procfile")]).to eq [foreman, "web: x\n"]
      end
    end

    describe "with databases" do
      around do |example|
        before = ActiveRecord::Base.configurations
        others = { "tasker" => { migrations_paths: ["db/orders"] }, "shared" => {},
                   "lite" => { adapter: "sqlite3", migrations_paths: "db/lite" } }
        own = before.configs_for(env_name: "test").first.configuration_hash
        ActiveRecord::Base.configurations = { "test" => { "primary" => own,
                                                          **others.transform_values { |other| own.merge(other) } } }
        example.run
      ensure
        ActiveRecord::Base.configurations = before
      end

      it "copies migrations to the database's path and names it once" do
        routes
        2.times { output_of("install", "--database", "tasker") }
        expect(files.grep(/migrat|create_tasker/)).to match [%r{\Adb/orders/\d+_create_tasker_tables.tasker_core.rb\z}]
        expect(written("config/initializers/tasker_core.rb").scan(/^Rails.*connects_to.*/))
          .to eq ["Rails.application.config.tasker_core.connects_to = { database: { writing: :tasker } }"]
      end

      it "rejects an unknown, shared or foreign database" do
        expect(output_of("install", "--database", "nope"))
          .to match(%r{\A--database nope: config/database.yml must.*migrations_paths: db/nope_migrate.*\(1\)}m)
        expect(output_of("install", "--database", "shared"))
          .to start_with "--database shared: config/database.yml must have this database in test"
        expect(output_of("install", "--database", "lite"))
          .to match(/"sqlite3" \(String\) must be postgresql.*--database selects another database/)
        expect(files).to be_empty
      end
    end
  end

  describe "update" do
    it "copies missing migrations and names new settings" do
      routes
      output_of("install")
      expect(output_of("update")).not_to match(/create|db:migrate|Settings missing/)
      FileUtils.rm(Dir.glob(File.join(@directory, "db/migrate/*_install_*")))
      path = File.join(@directory, "config/tasker-core.yaml")
      text = File.read(path).sub(/^#   claim_batch:.*\n/, "")
      File.write(path, text.sub("#   claim_ahead:", "  claim_ahead:").sub("# execution:", "execution:"))
      setting = /execution.claim_batch: 200   # 1 to 10000; .*/
      expect(output_of("update"))
        .to match(/create.*_install_tasker_functions.*Settings missing from .*:\n\n  #{setting}\n\n.*db:migrate/m)
        .and include("bin/rails tasker_core:functions:install")
      expect(files.grep(/_install_/).size).to eq 1
    end

    it "counts a setting of one environment as mentioned" do
      text = "environments:\n  production:\n    execution:\n      threads: 9\n"
      missing = described_class::SettingsFile.new(text).missing.map { |setting| setting[:path] }
      expect(missing).to include("execution.processes", "retry.base")
      expect(missing).not_to include("execution.threads")
    end
  end
end
