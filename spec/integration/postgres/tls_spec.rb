# frozen_string_literal: true

require "socket"
require_relative "../../../bench/chaos/authority"
require_relative "../../../bench/chaos/effects"
require_relative "../../../bench/chaos/servers"

# Active Record's connections (libpq) and the workers' own (Rust) over TCP with TLS.
RSpec.describe "A connection with TLS" do
  attr_reader :parameters

  def free_port = TCPServer.open("127.0.0.1", 0) { |server| server.local_address.ip_port }

  around do |example|
    Dir.mktmpdir do |directory|
      @directory = directory
      authority = Chaos::Authority.new(directory)
      settings = { port: free_port, fsync: "off" }
      server = Chaos::Servers::Server.new(authority: authority, names: ["localhost"], **settings).start
      server_url = TaskerCore::Development::Database.create(server.url, TEST_DATABASE)
      certificate, key = authority.issue("postgres")
      @parameters = { host: "localhost", port: URI.decode_www_form(URI(server_url).query).to_h["port"],
                      username: "postgres", sslmode: "verify-full", sslrootcert: authority.path,
                      sslcert: certificate, sslkey: key }
      TaskerCore::Development::Database.prepare(server_url)
      example.run
    ensure
      ActiveRecord::Base.establish_connection(ENV.fetch("DATABASE_URL"))
      server&.stop
    end
  end

  def url(**changed)
    given = parameters.merge(changed).compact
    "postgresql://#{given.delete(:username)}@#{given.delete(:host)}:#{given.delete(:port)}/#{TEST_DATABASE}?" \
      "#{given.map { |parameter| parameter.join('=') }.join('&')}"
  end

  # The keys of config/database.yml.
  def file(**changed) = { adapter: "postgresql", database: TEST_DATABASE, **parameters, **changed }.compact

  def start(database)
    worker = TaskerCore::Worker.new(database: database, name: "secure").start
    yield worker
  ensure
    worker&.stop(timeout: 5)
  end

  def encrypted
    ActiveRecord::Base.connection.select_rows("select application_name = 'tasker_core', bool_and(ssl) " \
                                              "from pg_stat_ssl join pg_stat_activity using (pid) " \
                                              "where client_addr is not null group by 1")
  end

  def refuse(message, **changed)
    expect { PG.connect(url(**changed)) }
      .to raise_error(PG::Error, message)
    [{ url: url(**changed) }, file(**changed)].each do |database|
      expect { start(database) { nil } }.to raise_error(TaskerCore::DatabaseError, message)
    end
  end

  it "is used by both sides, with the address of a URL or of the file" do
    [url, file].each do |database|
      ActiveRecord::Base.establish_connection(database)
      given = database.is_a?(Hash) ? database : { url: database }
      start(given) do
        expect(Diamond.create!(n: 2).wait(timeout: 120).state).to eq "complete"
        expect(encrypted).to contain_exactly([true, true], [false, true])
      end
    end
  end

  it "is refused on both sides if the certificate has another name" do
    refuse(/certificate.* for .*127\.0\.0\.1/i, host: "127.0.0.1")
  end

  it "is refused on both sides if the authority is unknown" do
    refuse(/certificate verify failed|UnknownIssuer|BadSignature/,
           sslrootcert: Chaos::Authority.new(@directory, "stranger").path)
  end

  it "is refused on both sides without the client's certificate" do
    refuse(/certificate/, sslcert: nil, sslkey: nil)
  end
end
