# frozen_string_literal: true

require "open3"
require "tmpdir"

# Applications that differ from the dummy in the frameworks they load and in their names.
RSpec.describe "The engine in an application" do
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }

  # Runs an application with these railties and settings, and returns the script's output.
  def host(railties:, script:, settings: "")
    file = File.join(@directory, "host.rb")
    File.write(file, <<~RUBY)
      require "bundler/setup"
      require "rails"
      #{railties.map { |railtie| "require #{railtie.inspect}" }.join("\n")}
      require "tasker_core"
      class Host < Rails::Application
        config.root = #{@directory.inspect}
        config.load_defaults Rails::VERSION::STRING.to_f
        config.eager_load = true
        config.secret_key_base = "a host's"
        config.consider_all_requests_local = false
        config.logger = ActiveSupport::Logger.new(nil)
        routes.append { mount TaskerCore::Engine => "/flows" }
        #{settings}
      end
      Host.initialize!
      def get(path)
        status, _, body = Rails.application.call(Rack::MockRequest.env_for(path))
        text = +""
        body.each { |part| text << part }
        [status, text]
      end
      #{script}
    RUBY
    variables = { "RAILS_ENV" => "production", "BUNDLE_GEMFILE" => "#{root}/Gemfile", "SECRET_KEY_BASE" => "x" }
    out, status = Open3.capture2e(variables, RbConfig.ruby, "-I#{root}/lib", file, chdir: @directory)
    expect(status).to be_success, out
    out
  end

  it "eager-loads in production beside foreign acronyms" do
    output = host(railties: %w[active_record/railtie action_controller/railtie],
                  settings: "ActiveSupport::Inflector.inflections(:en) { |inflect| %w[API REST UI HTTP].each { " \
                            "|word| inflect.acronym(word) } }",
                  script: <<~RUBY)
                    Rails.autoloaders.main.eager_load(force: true)
                    puts TaskerCore::V1.constants.grep(/Controller/).sort.join(" ")
                    puts get("/flows/api/v1/health/live"), get("/flows/api/v1/tasks")
                  RUBY
    expect(output).to include("AttemptsController BaseController HealthController").and include("TasksController")
    expect(output).to include("200\n{\"status\":\"live\"}").and match(/^403\n.*urn:tasker-core:closed/)
  end

  it "works with Active Record alone" do
    output = host(railties: %w[active_record/railtie],
                  script: 'puts get("/flows/api/v1/health/ready"), get("/flows/api/v1/tasks")')
    expect(output).to include("200\n{\"status\":\"ready\"}").and match(/^403\n.*urn:tasker-core:closed/)
  end

  it "leaves requests, jobs and log lines alone if so configured" do
    output = host(railties: %w[active_record/railtie active_job/railtie action_controller/railtie],
                  settings: <<~SETTINGS,
                    config.tasker_core.logging = { tags: false }
                    initializer("off", before: :load_config_initializers) do |app|
                      app.config.tasker_core.correlation = { middleware: false, jobs: false }
                    end
                  SETTINGS
                  script: <<~RUBY)
                    puts Rails.application.middleware.include?(TaskerCore::Correlation::RackMiddleware)
                    puts ActiveJob::Base.include?(TaskerCore::Correlation::ActiveJobExtension)
                    headers = Rails.application.call(Rack::MockRequest.env_for("/flows/api/v1/health/live"))[1]
                    puts headers.keys.grep(/correlation/i).inspect
                  RUBY
    expect(output).to eq "false\nfalse\n[]\n"
  end

  it "works in an API-only application" do
    output = host(railties: %w[active_record/railtie action_controller/railtie],
                  settings: <<~SETTINGS, script: 'puts get("/flows/api/v1/tasks")')
                    config.api_only = true
                    config.after_initialize { TaskerCore.authenticate_with { "ada" } }
                  SETTINGS
    expect(output).to include("200\n{\"tasks\":[]")
  end

  it "passes Zeitwerk's check" do
    output = host(railties: %w[active_record/railtie action_controller/railtie],
                  script: 'require "rake"; Rails.application.load_tasks; Rake::Task["zeitwerk:check"].invoke')
    expect(output).to include("All is good!")
  end

  it "loads without Rails and without Action Controller" do
    script = <<~RUBY
      require "bundler/setup"
      require "tasker_core"
      p TaskerCore::HTTP::Access.new, TaskerCore::HTTP::ProblemDetails.new(TaskerCore::InputError.new("x")).status
      p defined?(ActionController), defined?(Rails::Engine)
    RUBY
    out, status = Open3.capture2e({ "BUNDLE_GEMFILE" => "#{root}/Gemfile" }, RbConfig.ruby, "-I#{root}/lib", "-e",
                                  script)
    expect(status).to be_success, out
    expect(out.lines.last(3)).to eq %W[422\n nil\n nil\n]
  end
end
