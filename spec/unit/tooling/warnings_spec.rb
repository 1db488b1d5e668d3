# frozen_string_literal: true

require "open3"

RSpec.describe "Warnings of `ruby -w`" do
  # Compiles every file and loads it in a Rails application, because some warnings appear only when a file is loaded.
  let(:script) { <<~RUBY }
    files = Dir["{lib,app,exe,db,config,demo}/**/*.rb"] + %w[exe/tasker]
    files.each { |file| RubyVM::InstructionSequence.compile(File.read(file, encoding: "UTF-8"), file) }
    require File.expand_path("spec/dummy/config/environment")
    require "tasker_core/testing"
    Rails.application.load_generators
    module TaskerCore; LOADER.eager_load; end
    Rails.application.eager_load!
    Dir["lib/generators/**/*_generator.rb"].each { |file| require File.expand_path(file) }
  RUBY

  def warnings(script)
    output, status = Open3.capture2e({ "RAILS_ENV" => "test" }, RbConfig.ruby, "-w", "-Ilib", "-e", script, chdir: root)
    raise output unless status.success?

    output.lines.grep(%r{\A(?:#{Regexp.escape(root)}/)?(?:lib|app|exe|db|config|demo)/\S+:\d+: warning}).uniq
  end

  it "come from no file of the gem" do
    expect(warnings(script)).to eq []
  end

  it "are detected" do
    expect(warnings('RubyVM::InstructionSequence.compile("/[[:cntrl:][:space:]]/", "lib/a.rb")'))
      .to match [%r{\Alib/a.rb:1: warning}]
  end
end
