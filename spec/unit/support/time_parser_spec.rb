# frozen_string_literal: true

RSpec.describe TaskerCore::Support::TimeParser do
  around { |example| Time.use_zone("Tokyo") { example.run } }

  # On a machine in another time zone than the application.
  def read(value, machine: "America/Caracas")
    before = ENV.fetch("TZ", nil)
    ENV["TZ"] = machine
    described_class.read(value)&.iso8601(3)
  ensure
    ENV["TZ"] = before
  end

  {
    Date.new(2030, 3, 10) => "2030-03-09T15:00:00.000Z",
    DateTime.new(2030, 3, 10, 12, 0, 0, "+01:00") => "2030-03-10T11:00:00.000Z",
    Time.utc(2030, 3, 10, 12) => "2030-03-10T12:00:00.000Z",
    Time.new(2030, 3, 10, 12, 0, 0, "-03:00") => "2030-03-10T15:00:00.000Z",
    ActiveSupport::TimeZone["Lima"].local(2030, 3, 10, 1) => "2030-03-10T06:00:00.000Z",
    "2030-03-10" => "2030-03-09T15:00:00.000Z",
    "2030-03-10T12:00" => "2030-03-10T03:00:00.000Z",
    "2030-03-10 12:00:01.25" => "2030-03-10T03:00:01.250Z",
    "2030-03-10T12:00:00Z" => "2030-03-10T12:00:00.000Z",
    "2030-03-10T12:00:00+01:00" => "2030-03-10T11:00:00.000Z",
    "2030-02-31" => nil, "2030-03-10T25:00" => nil, "10.3.2030" => nil, "soon" => nil, "" => nil, "2030-03-10\n" => nil,
    "2030-03-10\xff" => nil,
    "0001-01-01" => nil, 5 => nil, nil => nil
  }.each do |value, expected|
    it "reads #{value.inspect} (#{value.class}) as #{expected.inspect}" do
      expect([read(value), read(value, machine: "UTC")]).to eq [expected, expected]
    end
  end

  it "reads a time without a zone as UTC without Time.zone" do
    Time.use_zone(nil) do
      allow(Time).to receive(:zone).and_return(nil)
      expect(read("2030-03-10")).to eq "2030-03-10T00:00:00.000Z"
    end
  end
end
