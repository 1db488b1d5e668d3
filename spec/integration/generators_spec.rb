# frozen_string_literal: true

require "rails/generators"
require "generators/tasker_core/subscriber/subscriber_generator"
require "tmpdir"

RSpec.describe TaskerCore::Generators::SubscriberGenerator do
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }

  def generate(*arguments)
    described_class.start(arguments, destination_root: @directory, quiet: true, shell: Thor::Shell::Basic.new)
  end

  def written(path) = File.read(File.join(@directory, path))

  it "writes a subscriber that listens, and its test" do
    generate("billing/pager", "step.failed", "task.*")
    code = written("app/subscribers/billing/pager.rb")
    expect(code).to include("class Billing::Pager < TaskerCore::Subscriber", 'subscribe_to "step.failed", "task.*"')
    stub_const("Billing", Module.new)
    eval(code, TOPLEVEL_BINDING) # rubocop:disable Security/Eval
    expect(TaskerCore.events.wants?("step.failed")).to be true
    fields = { "id" => "1", "name" => "step.failed", "occurred_at" => 0, "payload" => { "task_id" => 1 } }
    expect(Billing::Pager.new.call(TaskerCore::Event.new(fields))).to be true
    expect(written("test/subscribers/billing/pager_test.rb")).to include "class Billing::PagerTest < ActiveSupport::TestCase"
  ensure
    Billing::Pager.unsubscribe
  end

  it "writes a spec where there are specs, and refuses what nobody publishes" do
    Dir.mkdir(File.join(@directory, "spec"))
    generate("pager")
    expect(written("spec/subscribers/pager_spec.rb")).to include "RSpec.describe Pager do"
    expect { generate("other", "step.faild") }.to output(/did you mean `step.failed`/).to_stderr
    expect(File.exist?(File.join(@directory, "app/subscribers/other.rb"))).to be false
  end
end
