# frozen_string_literal: true

require "pp"
require "tmpdir"

# Turns Active Record's configuration into the address for workers' connections.
RSpec.describe TaskerCore::Postgres::Address do
  RSpec::Matchers.define_negated_matcher :not_include, :include

  around do |example|
    kept = ENV.to_h
    Dir.mktmpdir do |directory|
      ENV.delete_if { |name, _| name.start_with?("PG") }
      ENV["HOME"] = @directory = directory
      example.run
    end
  ensure
    ENV.replace(kept)
  end

  def address(**configuration)
    described_class.of({ adapter: "postgresql", host: "db", database: "shop", username: "ada" }.merge(configuration))
  end

  def write(name, text, mode: 0o600)
    "#{@directory}/#{name}".tap { |path| File.write(path, text) && File.chmod(mode, path) }
  end

  def refused(**configuration)
    address(**configuration)
    raise "nothing was refused"
  rescue TaskerCore::ConfigurationError => e
    e.message
  end

  it "accepts hosts, ports and passwords in libpq's forms" do
    expect(address(port: "5433", password: 48_213_377))
      .to include(hosts: [{ host: "db", port: 5433, password: "48213377" }], user: "ada", database: "shop")
    expect(address(host: "a,b", port: "1,2")[:hosts]).to eq [{ host: "a", port: 1 }, { host: "b", port: 2 }]
    expect(address(host: "a,b", hostaddr: "10.0.0.1,", port: 7)[:hosts])
      .to eq [{ host: "10.0.0.1", port: 7 }, { host: "b", port: 7 }]
    expect(described_class.of(url: "postgresql://u:p%20w@h:6/shop?host=/run/x"))
      .to include(hosts: [{ host: "/run/x", port: 6, password: "p w" }], user: "u", database: "shop")
    expect(described_class.of(adapter: "postgresql", user: "u", host: "h")).to include(user: "u", database: "u")
    expect(described_class.of(adapter: "postgresql")[:hosts]).to eq [{ port: 5432 }]
  end

  it "reads libpq's environment below the configuration" do
    ENV.update("PGHOST" => "from_env", "PGPORT" => "7", "PGUSER" => "env", "PGPASSWORD" => "word",
               "PGDATABASE" => "env_db", "PGAPPNAME" => "shell",
               "PGTARGETSESSIONATTRS" => "read-write", "PGCONNECT_TIMEOUT" => "9", "PGGEQO" => "off",
               "PGOPTIONS" => "-c work_mem=1MB")
    expect(described_class.of(adapter: "postgresql")).to include(
      hosts: [{ host: "from_env", port: 7, password: "word" }], user: "env", database: "env_db",
      application_name: "shell", connect_timeout: 9,
      target_session_attrs: "read-write", options: [%w[work_mem 1MB]],
      session: [{ key: "PGGEQO", name: "geqo", value: "E'off'" }]
    )
    expect(address(port: 8, application_name: "shop", connect_timeout: 3))
      .to include(hosts: [{ host: "db", port: 8, password: "word" }], application_name: "shop", connect_timeout: 3)
    expect(refused(options: "-c work_mem=2MB")).to include("options", "PGOPTIONS", "set twice").and not_include("2MB")
  end

  it "reads passwords from libpq's file" do
    write(".pgpass", "# none\nother:*:*:*:no\ndb:5432:shop:ada:a\\:b\\\\c\n*:*:*:*:rest\n")
    expect(address[:hosts].first[:password]).to eq 'a:b\c'
    expect(address(host: "db,elsewhere")[:hosts].map { _1[:password] }).to eq ['a:b\c', "rest"]
    expect(address(password: "given")[:hosts].first[:password]).to eq "given"
    expect(address(passfile: write("mine", "localhost:*:*:ada:socket\n"), host: "/tmp")[:hosts].first[:password])
      .to eq "socket"
    expect(address(passfile: write("open", "*:*:*:*:seen\n", mode: 0o644))[:hosts].first).not_to have_key(:password)
  end

  it "reads a service file below the configuration" do
    ENV["PGSERVICEFILE"] = write(
      "services", "# ours\n[other]\nhost=no\n[shop]\nhost=served\nport=9\nuser=eve\ndbname=db\n\n[more]\nport=1\n"
    )
    ENV["PGUSER"] = "env"
    expect(described_class.of(adapter: "postgresql", service: "shop", port: 8))
      .to include(hosts: [{ host: "served", port: 8 }], user: "eve", database: "db")
    ENV["PGSERVICE"] = "shop"
    expect(described_class.of(adapter: "postgresql")).to include(hosts: [{ host: "served", port: 9 }], user: "eve")
    expect(refused(service: "nowhere")).to match(/service .* names a service that no service file defines/)
    ENV.delete("PGSERVICE")
    write("services", "[shop]\nldap://secret\n")
    expect(refused(service: "shop")).to match(/service .*LDAP/).and not_include("secret")
  end

  it "makes the session settings that Active Record makes" do
    settings = address(schema_search_path: '"$user", public', variables: { role: "clerk", "x" => :default, work_mem: 64,
                                                                           a: true, b: "it's\\", c: nil })[:session]
    expect(settings.map { _1.values_at(:name, :value) })
      .to eq [["search_path", '"$user", public'], %w[role E'clerk'], %w[x default], %w[work_mem 64], %w[a true],
              ["b", "E'it''s\\\\'"]]
    expect(address(options: '-c search_path=a,\ b --work-mem=3MB -cx.y=1')[:options])
      .to eq [["search_path", "a, b"], %w[work_mem 3MB], ["x.y", "1"]]
    expect(refused(options: "-d 5")).to match(/options .* must be settings/)
  end

  it "encrypts as libpq does with the files that exist" do
    expect(address).to include(sslmode: "prefer").and not_include(:sslrootcert)
    expect(address(host: "/run/x", sslmode: :require)).to include(sslmode: "disable")
    FileUtils.mkdir("#{@directory}/.postgresql")
    paths = %w[root.crt postgresql.crt postgresql.key].map { |name| write(".postgresql/#{name}", "") }
    expect(address(sslmode: :require))
      .to include(sslmode: "verify-ca", sslrootcert: paths[0], sslcert: paths[1], sslkey: paths[2])
    expect(address(sslmode: "verify-full", sslrootcert: "system"))
      .to include(sslmode: "verify-full").and not_include(:sslrootcert)
    write(".postgresql/root.crl", "")
    expect(refused(sslmode: "verify-full")).to match(/sslcrl .*root\.crl/)
  end

  # Every key that this or a later libpq has is used, irrelevant or rejected.
  it "rejects unsupported keys by name, without their values" do
    { sslpassword: "hunter2", sslcrl: "hunter2", sslsni: "0", requirepeer: "hunter2", require_auth: "scram-sha-256",
      gssencmode: "require", channel_binding: "require",
      krbsrvname: "hunter2", replication: "database", ssl_min_protocol_version: "TLSv1.3", sslmode: "hunter2",
      port: "hunter2", connect_timeout: "hunter2",
      target_session_attrs: "hunter2", load_balance_hosts: "hunter2" }.each do |key, value|
      next unless PG::Connection.conndefaults_hash.key?(key) # of another libpq

      expect(refused(key => value)).to match(/\Aworkers cannot be started: #{key} /).and not_include("hunter2")
    end
    expect(refused(host: "a,b,c", port: "1,2")).to match(/port .* or one for each host/)
    expect(refused(host: "a", hostaddr: "10.0.0.1", sslmode: "verify-full")).to match(/hostaddr .*host and verify-full/)
    expect { described_class.of(url: "postgresql://u:se cret@h/x") }
      .to raise_error(TaskerCore::ConfigurationError) { |error| expect(error.message).not_to include("cret") }
    expect(address(keepalives: 1, keepalives_idle: 30, tcp_user_timeout: 5, sslmode: "disable", sslpassword: "x"))
      .to include(:hosts)
  end

  it "prints none of its values" do
    secretive = address(password: "hunter2", variables: { role: "hunter2" })
    printed = [secretive.inspect, secretive.to_s, PP.pp(secretive, +""), secretive.merge(a: 1).inspect,
               TaskerCore::Worker.new(database: secretive).inspect]
    expect(printed.join).to include("hosts").and not_include("hunter2")
    expect do
      TaskerCore::Native::Orchestrator.start('{"database":{"user":4711}}', TaskerCore.config.native,
                                             TaskerCore.events.native)
    end.to raise_error(TaskerCore::ConfigurationError) { |error| expect(error.message).not_to include("4711") }
  end
end
