# frozen_string_literal: true

require "open3"

RSpec.describe TaskerCore::Engine do
  def run(name, application)
    described_class.initializers.find { |one| one.name == name }.bind(described_class.instance).run(application)
  end

  it "rejects a database declared in an unknown form" do
    settings = ActiveSupport::OrderedOptions[connects_to: :tasker]
    application = Struct.new(:config).new(Struct.new(:tasker_core).new(settings))
    expect { run("tasker_core.database", application) }
      .to raise_error(TaskerCore::ConfigurationError,
                      /connects_to: :tasker \(Symbol\) must be an argument of.*\{ database: \{ writing: :tasker \} \}/)
  end

  it "rejects a reading role declared in an unknown form" do
    settings = ActiveSupport::OrderedOptions[reading_role: "replica"]
    application = Struct.new(:config).new(Struct.new(:tasker_core).new(settings))
    expect { run("tasker_core.reading_role", application) }
      .to raise_error(TaskerCore::ConfigurationError, /reading_role: "replica" \(String\) must be a role of.*:reading/)
  end

  it "filters values that the application's filter_parameters name" do
    expect(TaskerCore.logging.filtered({ "card" => "4111", "n" => 1 })).to eq("card" => "[FILTERED]", "n" => 1)
  end

  it "calls a listener once per event after code reloading" do
    received = Queue.new
    load_listener = lambda do
      stub_const("Reloaded",
                 Class.new(TaskerCore::Subscriber) { define_method(:call) { |event| received << event[:number] } })
      Reloaded.subscribe_to("shop.packed")
    end
    load_listener.call
    Rails.application.reloader.new.run_callbacks(:class_unload)
    load_listener.call
    2.times { |number| TaskerCore.events.publish("shop.packed", { number: number }) }
    expect(Array.new(2) { Timeout.timeout(120) { received.pop } }).to eq [0, 1]
  ensure
    Reloaded.unsubscribe
    Object.send(:remove_const, :Witness)
    load "#{root}/spec/dummy/app/subscribers/witness.rb"
  end

  it "delivers waiting events at process exit" do
    env = { "TASKER_CORE__EVENTS__FLUSH_INTERVAL" => "1m" }
    output, status = Open3.capture2e(env, RbConfig.ruby, "-Ilib", "-e", <<~RUBY, chdir: root)
      require "./spec/dummy/config/environment"
      TaskerCore.events.subscribe("shop.packed") { |event| puts "heard \#{event[:number]}" }
      TaskerCore.events.publish("shop.packed", { number: 7 })
    RUBY
    expect([output, status.success?]).to eq ["heard 7\n", true]
  end

  # The middleware and the load hooks that the engine adds under these settings.
  def added(settings = {})
    before = TaskerCore.config
    TaskerCore.configure(settings)
    middleware = []
    done = []
    allow(ActiveSupport).to receive(:on_load) { |name| done << name }
    run("tasker_core.correlation", Struct.new(:middleware).new(middleware))
    [middleware, done]
  ensure
    TaskerCore.configure(before)
  end

  it "adds middleware and job ids unless the settings disable them" do
    expect(added).to eq [[TaskerCore::Correlation::RackMiddleware], [:active_job]]
    expect(added(correlation: { middleware: false })).to eq [[], [:active_job]]
    expect(added(correlation: { jobs: false })).to eq [[TaskerCore::Correlation::RackMiddleware], []]
  end

  it "keeps settings that an application's initializer assigned" do
    before = TaskerCore.config
    TaskerCore.configure(own = TaskerCore::Configuration.new({ execution: { threads: 9 } }))
    run("tasker_core.later_configuration", Rails.application)
    expect(TaskerCore.config).to be own
  ensure
    TaskerCore.configure(before)
  end
end
