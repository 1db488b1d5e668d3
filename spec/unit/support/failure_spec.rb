# frozen_string_literal: true

RSpec.describe TaskerCore::Support::Failure do
  describe ".headline" do
    {
      "declined" => "declined",
      "" => "",
      "  two\twords \n" => "two words",
      "\n\nuninitialized constant Net\n\n    Net.get\n    ^^^\nDid you mean?  Set" => "uninitialized constant Net …",
      "bad \xff" => "bad \u{fffd}",
      "word#{' ' * 1_000_000}" => "word …",
      "#{'x' * 1000}y" => "#{'x' * 1000} …"
    }.each do |message, headline|
      it("shortens #{message.truncate(80).inspect} to #{headline.truncate(80).inspect}") do
        expect(described_class.headline(message)).to eq headline
      end
    end
  end

  describe "a requested delay" do
    def failure(asked) = described_class.new(TaskerCore::RetryableError.new("busy", retry_after: asked))

    { 30 => 30.0, "30" => 30.0, 1.5.seconds => 1.5, 0 => 0.0 }.each do |asked, seconds|
      it("is #{seconds} s for #{asked.inspect}") do
        expect([failure(asked).retry_after, failure(asked).to_h[:message]]).to eq [seconds, "busy"]
      end
    end

    ["soon", Time.at(1_800_000_000), -1, Float::NAN, [30], "Wed, 21 Oct 2026 07:28:00 GMT"].each do |asked|
      it "falls back to the policy for #{asked.inspect} with a note" do
        expect(failure(asked).retry_after).to be_nil
        expect(failure(asked).to_h[:message])
          .to start_with("busy (retry_after: #{asked.inspect.truncate(80)} (#{asked.class}) is not a number of seconds")
      end
    end

    it("falls back to the policy silently without a request") { expect(failure(nil).to_h[:message]).to eq "busy" }
  end
end
