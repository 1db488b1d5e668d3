# frozen_string_literal: true

RSpec.describe TaskerCore::Engine do
  def run(name, application)
    described_class.initializers.find { |one| one.name == name }.bind(described_class.instance).run(application)
  end

  it "refuses a database that is said otherwise than Active Record takes it" do
    settings = ActiveSupport::OrderedOptions[connects_to: :tasker]
    application = Struct.new(:config).new(Struct.new(:tasker_core).new(settings))
    expect { run("tasker_core.database", application) }
      .to raise_error(TaskerCore::ConfigurationError, /connects_to: :tasker \(Symbol\) must be what.*\{ database: \{ writing: :tasker \} \}/)
  end

  it "leaves settings that an application's initializer has taken by itself" do
    before = TaskerCore.config
    TaskerCore.configure(own = TaskerCore::Configuration.new({ execution: { threads: 9 } }))
    run("tasker_core.later_configuration", Rails.application)
    expect(TaskerCore.config).to be own
  ensure
    TaskerCore.configure(before)
  end
end
