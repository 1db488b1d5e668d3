# frozen_string_literal: true

require_relative "../../../bench/chaos/authority"
require_relative "../../../bench/chaos/effects"
require_relative "../../../bench/chaos/servers"

# Two hosts and a server in a network of namespaces, connected over TCP with TLS.
RSpec.describe "A host that is cut off from the network" do
  around do |example|
    Chaos::Network.verify
    Dir.mktmpdir do |directory|
      @directory = directory
      Chaos::Network.run(directory, hosts: 2) do |network|
        @network = network
        Chaos::Servers.run(network: network, fsync: "off") { |servers| in_database(servers) { example.run } }
      end
    end
  rescue Chaos::Network::Unavailable => e
    skip e.message
  end

  def in_database(servers)
    local = TaskerCore::Development::Database.create(servers.url, TEST_DATABASE)
    TaskerCore::Development::Database.prepare(local)
    @url = servers.remote_url(TEST_DATABASE)
    yield
  ensure
    ActiveRecord::Base.establish_connection(ENV.fetch("DATABASE_URL"))
  end

  # Runs a worker on each host.
  def with_hosts
    pids = @network.hosts.map do |machine|
      spawn({ "DATABASE_URL" => @url, "RAILS_ENV" => "test", "DUMMY_LOG" => log_path(machine),
              "TASKER_CORE__DATABASE__STATEMENT_TIMEOUT" => "2s" },
            *machine.prefix, RbConfig.ruby, "-I#{root}/lib", "#{root}/exe/tasker", "work", "--threads", "1",
            "--require", "#{root}/spec/dummy/config/environment.rb", %i[out err] => File::NULL)
    end
    yield @network.hosts
  ensure
    pids.each { |pid| end_process(pid) }
  end

  def exist?(name) = File.exist?("#{@directory}/#{name}")

  def log_path(machine) = "#{@directory}/#{machine.name}.log"

  def log(machine) = File.read(log_path(machine))

  def finish(machine) = File.write("#{@directory}/finish-#{machine.name}", "")

  def outcomes(task) = TaskerCore::ApplicationRecord.uncached { task.attempts.order(:token).map(&:outcome) }

  %i[link_down drop_packets].each do |way|
    it "loses its step to another, and its late result is rejected (#{way})" do
      task = Stationed.create!(directory: @directory)
      with_hosts do |hosts|
        eventually { hosts.any? { |machine| exist?("started-#{machine.name}") } }
        isolated, other = hosts.partition { |machine| exist?("started-#{machine.name}") }.map(&:first)
        isolated.cut_off(way)
        eventually { exist?("started-#{other.name}") }
        finish(isolated)
        isolated.reconnect
        eventually { log(isolated).include?("a stale outcome was rejected") }
        expect(outcomes(task)).to eq ["lost"]
        finish(other)
        expect(task.wait(timeout: 60).results["only"]).to eq("host" => other.name)
        expect(outcomes(task)).to eq %w[lost completed]
      end
    end
  end
end
