# frozen_string_literal: true

RSpec.describe "docs/logging.md" do
  let(:document) { File.read("#{root}/docs/logging.md") }
  let(:sources) { Dir["#{root}/{lib/**/*.rb,ext/*/src/**/*.rs}"].map { |path| File.read(path) }.join }

  it "quotes messages that the code logs" do
    messages = document[/^## Messages\n(.*?)^## /m, 1].scan(/"([^"]+)"/).flatten
    expect(messages.size).to be > 20
    expect(messages.reject { |message| sources.match?(/"#{Regexp.escape(message)}[":]/) }).to eq []
  end

  it "names every notification that the subscriber handles" do
    names = TaskerCore::Logging::Subscriber.public_instance_methods(false).map(&:to_s)
    expect(names.reject { |name| document.include?("`#{name}`") }).to eq []
  end
end
