# frozen_string_literal: true

RSpec.describe TaskerCore::HTTP::Access do
  include ApiRequests

  subject(:access) { described_class.new }

  def request(authorization = nil) = ActionDispatch::Request.new({ "HTTP_AUTHORIZATION" => authorization }.compact)

  def basic(text) = "Basic #{[text].pack('m0')}"

  def actor(authorization = nil)
    access.actor(request(authorization))
  rescue TaskerCore::UnauthenticatedError => e
    e
  end

  it "is open in development and test, and closed elsewhere" do
    %w[development test].each { |name| in_environment(name) { expect(actor).to be true } }
    in_environment("production") do
      expect { actor }.to raise_error(TaskerCore::ClosedError, /configure authentication.*authenticate_with\(:token/)
      access.authenticate_with { "ada" }
      expect(actor).to eq "ada"
    end
  end

  it "authenticates with a block" do
    access.authenticate_with(challenge: "Own") { |request| request.authorization&.delete_prefix("Own ") }
    expect(actor("Own ada")).to eq "ada"
    expect(actor).to be_a(TaskerCore::UnauthenticatedError).and have_attributes(challenge: "Own")
  end

  it "authenticates with name and password" do
    access.authenticate_with(:basic, name: "ada", password: "pass:wörd")
    expect(actor(basic("ada:pass:wörd"))).to eq "ada"
    [nil, "", "Basic", "Basic !", basic("ada"), basic("ada:"), basic("ada:pass"), basic("bob:pass:wörd"),
     basic(":pass:wörd"),
     "Bearer #{['ada:pass:wörd'].pack('m0')}"].each do |wrong|
      expect(actor(wrong))
        .to be_a(TaskerCore::UnauthenticatedError).and have_attributes(challenge: /\ABasic realm="tasker_core"/)
    end
  end

  it "authenticates with tokens" do
    access.authenticate_with(:token, %w[one two])
    expect([actor("Bearer one"), actor("bearer two ")]).to eq [true, true]
    [nil, "Bearer", "Bearer ", "Bearer three", "Bearer on", "Bearer one two", "one", basic("one")].each do |wrong|
      expect(actor(wrong)).to be_a(TaskerCore::UnauthenticatedError).and have_attributes(challenge: /\ABearer/)
    end
  end

  it "compares every secret in constant time" do
    compared = []
    allow(ActiveSupport::SecurityUtils).to receive(:secure_compare).and_wrap_original do |original, *both|
      compared << both.last
      original.call(*both)
    end
    access.authenticate_with(:token, %w[one two])
    actor("Bearer one")
    access.authenticate_with(:basic, name: "ada", password: "secret")
    actor(basic("bob:secret"))
    expect(compared).to eq %w[one two ada secret]
  end

  it "rejects missing secrets" do
    expect { access.authenticate_with(:token, nil) }.to raise_error(TaskerCore::ConfigurationError, /token is blank/)
    expect { access.authenticate_with(:token, []) }.to raise_error(TaskerCore::ConfigurationError, /token is blank/)
    expect { access.authenticate_with(:token, ["a", " "]) }
      .to raise_error(TaskerCore::ConfigurationError, /token is blank/)
    expect { access.authenticate_with(:basic, name: "ada") }
      .to raise_error(TaskerCore::ConfigurationError, /password is blank/)
    expect { access.authenticate_with(:basic, password: "x") }
      .to raise_error(TaskerCore::ConfigurationError, /name is blank/)
    expect { access.authenticate_with(:digest) }
      .to raise_error(TaskerCore::ConfigurationError, /:digest \(Symbol\) must be :basic or :token/)
    expect { access.authenticate_with }.to raise_error(TaskerCore::ConfigurationError, /or a block/)
    expect { access.authorize_with }.to raise_error(TaskerCore::ConfigurationError, /give a block/)
  end

  it "rejects arguments without effect" do
    block = ->(_) { "ada" }
    {
      -> { access.authenticate_with(:token, "one", &block) } => "block has no effect with :token: leave it out",
      -> { access.authenticate_with(:token, "one", name: "ada") } => "name has no effect with :token: leave it out",
      -> { access.authenticate_with(:basic, "one", name: "ada", password: "x") } =>
        "tokens has no effect with :basic: leave it out",
      -> { access.authenticate_with(:basic, name: "ada", password: "x", challenge: "Own") } =>
        "challenge has no effect with :basic: leave it out",
      -> { access.authenticate_with(password: "x", &block) } => "password has no effect without :basic or " \
                                                                ":token: leave it out"
    }.each do |call, message|
      expect(&call).to raise_error(TaskerCore::ConfigurationError, "authenticate_with: #{message}")
    end
    access.authenticate_with(:token, "one", challenge: "Own")
    expect(actor).to have_attributes(challenge: "Own")
  end

  it "permits everything until a block authorizes" do
    expect(access.permits?("ada", :cancel, :tasks)).to be true
    asked = nil
    access.authorize_with { |*all| (asked = all) && all[1] == :list }
    expect(access.permits?("ada", :list, :tasks)).to be true
    expect(access.permits?("ada", :cancel, :tasks, 7)).to be false
    expect(asked).to eq ["ada", :cancel, :tasks, 7]
    expect { access.verify!("ada", :cancel, :tasks) }
      .to raise_error(TaskerCore::ForbiddenError, "you may not cancel tasks")
    expect(access.verify!("ada", :list, :tasks)).to be_nil
  end

  it "names the actor of an action" do
    user = Struct.new(:id) { def self.name = "User" }
    named = Struct.new(:tasker_actor)
    expect(["ada", :ada, true, "", user.new(5), named.new("Ada L.")].map { |one| access.name_of(one) })
      .to eq ["ada", "ada", "api", "api", "User 5", "Ada L."]
    expect(access.name_of(true, anonymous: "dashboard")).to eq "dashboard"
  end
end
