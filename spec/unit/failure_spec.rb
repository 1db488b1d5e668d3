# frozen_string_literal: true

RSpec.describe TaskerCore::Failure do
  describe ".headline" do
    {
      "declined" => "declined",
      "" => "",
      "  two\twords \n" => "two words",
      "\n\nuninitialized constant Net\n\n    Net.get\n    ^^^\nDid you mean?  Set" => "uninitialized constant Net …",
      "bad \xff" => "bad \u{fffd}"
    }.each do |message, headline|
      it("makes #{headline.inspect} of #{message.inspect}") { expect(described_class.headline(message)).to eq headline }
    end
  end
end
