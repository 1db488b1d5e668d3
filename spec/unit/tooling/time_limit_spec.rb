# frozen_string_literal: true

RSpec.describe TimeLimit do
  let(:out) { StringIO.new }

  def limit(seconds) = described_class.new(seconds, title: "a test", out: out)

  it "fails a hanging test and shows where each thread is" do
    waiting = Thread.new { sleep }
    expect { limit(0.05).within { sleep } }
      .to raise_error(described_class::Overdue, "a test: has not ended within 0.05 s")
    expect(out.string)
      .to include("a test: has not ended within 0.05 s", waiting.inspect).and match(/time_limit_spec.rb:\d+:in `sleep'/)
  ensure
    waiting.kill
  end

  it "leaves tests alone that end in time or fail themselves" do
    expect(limit(60).within { 7 }).to eq 7
    expect { limit(60).within { raise ArgumentError, "its own" } }.to raise_error(ArgumentError, "its own")
    expect(out.string).to eq ""
  end

  it "wraps every test" do
    expect(caller).to include(match(/time_limit.rb:\d+:in `within'/))
  end
end
