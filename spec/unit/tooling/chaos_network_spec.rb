# frozen_string_literal: true

require_relative "../../../bench/chaos/network"

RSpec.describe "The fault campaign's network" do
  def verify = Chaos::Network.verify

  def refuse_with(message) = raise_error(Chaos::Network::Unavailable, message)

  it "needs root" do
    allow(Process).to receive(:uid).and_return(1000)
    expect { verify }.to refuse_with("hosts in network namespaces need root: run the command as root")
  end

  it "needs the programs of namespaces" do
    allow(Process).to receive(:uid).and_return(0)
    stub_const("ENV", ENV.to_h.merge("PATH" => "/nowhere"))
    expect { verify }.to refuse_with("`ip` was not found: install it with `apt-get install iproute2`")
  end

  it "explains where namespaces are not permitted", if: Process.uid.zero? do
    allow(IO).to(receive(:popen).and_wrap_original { |popen, _, mode| popen.call(%w[echo not permitted], mode) })
    expect { verify }.to refuse_with("network namespaces cannot be created here: not permitted")
  end
end
