# frozen_string_literal: true

require "tmpdir"
require_relative "../../bench/chaos/pooler"

# A real PgBouncer between the workers and the tests' server.
module Pooler
  # @param settings [Hash] of PgBouncer, over the defaults of {Chaos::Pooler}
  # @yieldparam url [String] of the tests' database, through the pooler
  def self.run(**settings)
    Dir.mktmpdir("tasker-pooler") do |directory|
      pooler = Chaos::Pooler.new(directory, target, **settings)
      yield pooler.start.url(TEST_DATABASE)
    ensure
      pooler&.stop
    end
  end

  def self.target
    server = TaskerCore::Postgres::Address.of(url: SERVER_URL)
    host = server[:hosts].first
    { host: host[:host], port: host[:port], user: server[:user], password: host[:password] }.compact
  end
  private_class_method :target
end
