# frozen_string_literal: true

RSpec.describe TaskerCore::Diagnosis::Wording do
  {
    -1 => "0 s", 0 => "0 s", 0.017 => "17 ms", 0.94 => "940 ms", 0.95 => "1 s", 1.44 => "1.4 s", 2 => "2 s",
    27.9 => "27 s", 119 => "119 s", 120 => "2 min", 7199 => "119 min", 7200 => "2 h", 172_800 => "2 d"
  }.each do |seconds, text|
    it("formats #{seconds} seconds as #{text}") { expect(described_class.span(seconds)).to eq text }
  end
end
