# frozen_string_literal: true

require "open3"
require "tmpdir"

# Runs in a checkout of its own, with a fake cargo: `cache` holds its crates and `registry` makes the registry
# reachable.
RSpec.describe "bin/support/crates/fetch" do
  around { |example| Dir.mktmpdir { |directory| (@root = File.realpath(directory)) && example.run } }

  let(:checkout) { "#{@root}/main" }
  let(:config) { "#{checkout}/.cargo/config.toml" }

  def write(path, text = "", mode: 0o644)
    FileUtils.mkdir_p(File.dirname(path))
    File.write(path, text)
    File.chmod(mode, path)
  end

  before do
    write("#{checkout}/bin/support/crates/fetch", File.read("bin/support/crates/fetch"), mode: 0o755)
    write("#{checkout}/bin/support/crates/from_debian", "#!/bin/sh\necho from Debian\n", mode: 0o755)
    write("#{@root}/bin/cargo", <<~SH, mode: 0o755)
      #!/bin/sh
      if [ "$CARGO_NET_OFFLINE" = true ]; then
        [ -e #{@root}/cache ] || grep -qs '"#{@root}/.*crates"' .cargo/config.toml
      else
        [ -e #{@root}/registry ] && [ ! -e .cargo/config.toml ]
      fi || { echo 'no such host' >&2; exit 101; }
    SH
  end

  def local_registry(path) = FileUtils.mkdir_p("#{@root}/#{path}")

  # @return [Array(String, Boolean)]
  def fetch(**variables)
    environment = { "PATH" => "#{@root}/bin:#{ENV.fetch('PATH')}", "TASKER_CRATES" => nil }
    output, status = Open3.capture2e(environment.merge(variables.transform_keys(&:to_s)),
                                     "#{checkout}/bin/support/crates/fetch")
    [output, status.success?]
  end

  it "writes no configuration when cargo can get the crates" do
    local_registry("shared/crates")
    %w[cache registry].each do |source|
      write("#{@root}/#{source}")
      expect(fetch).to eq ["", true]
      File.delete("#{@root}/#{source}")
    end
    expect(File).not_to exist(config)
  end

  it "uses a local registry beside the checkout" do
    local_registry("shared/crates")
    expect(fetch).to eq ["", true]
    expect(File.read(config)).to include(%(local-registry = "#{@root}/shared/crates"))
  end

  it "uses the local registry that TASKER_CRATES names" do
    local_registry("shared/crates")
    local_registry("other/crates")
    expect(fetch(TASKER_CRATES: "../other/crates")).to eq ["", true]
    expect(File.read(config)).to include(%(local-registry = "#{@root}/other/crates"))
  end

  it "rewrites its configuration when the directory has moved" do
    local_registry("shared/crates")
    fetch
    File.write(config, File.read(config).sub(@root, "/nowhere"))
    expect(fetch).to eq ["", true]
    expect(File.read(config)).to include(%("#{@root}/shared/crates"))

    File.write(config, File.read(config).sub(@root, "/nowhere"))
    write("#{@root}/registry")
    expect(fetch).to eq ["", true]
    expect(File).not_to exist(config)
  end

  it "keeps a contributor's configuration and reports its error" do
    local_registry("shared/crates")
    write(config, "[source.crates-io]\n")
    expect(fetch).to eq ["bin/setup: cargo cannot fetch the crates with .cargo/config.toml: no such host\n", false]
    expect(File.read(config)).to eq "[source.crates-io]\n"
  end

  it "rejects a TASKER_CRATES without a directory or a crate" do
    expect(fetch(TASKER_CRATES: "/nowhere").first)
      .to eq "bin/setup: TASKER_CRATES names /nowhere, which is not a directory\n"
    local_registry("incomplete")
    expect(fetch(TASKER_CRATES: "../incomplete"))
      .to eq ["bin/setup: the crates in ../incomplete are not those of Cargo.lock: no such host\n", false]
  end

  it "falls back to Debian's crates and reports why" do
    expect(fetch).to eq ["bin/setup: the crate registry cannot be reached: no such host\nfrom Debian\n", true]
  end

  it "leaves Debian's crates when a registry is available" do
    write("#{checkout}/tmp/debian/in_use")
    write("#{@root}/registry")
    fetch
    expect(File).not_to exist("#{checkout}/tmp/debian/in_use")
  end
end
