# frozen_string_literal: true

require "open3"
require "tmpdir"

# In a checkout of its own, with a cargo that knows two directories: what is in `cache` it has, and `registry` it reaches.
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
    output, status = Open3.capture2e(environment.merge(variables.transform_keys(&:to_s)), "#{checkout}/bin/support/crates/fetch")
    [output, status.success?]
  end

  it "writes no configuration where cargo has the crates or reaches the registry" do
    local_registry("shared/crates")
    %w[cache registry].each do |source|
      write("#{@root}/#{source}")
      expect(fetch).to eq ["", true]
      File.delete("#{@root}/#{source}")
    end
    expect(File).not_to exist(config)
  end

  it "takes a local registry beside the checkout" do
    local_registry("shared/crates")
    expect(fetch).to eq ["", true]
    expect(File.read(config)).to include(%(local-registry = "#{@root}/shared/crates"))
  end

  it "takes the local registry that TASKER_CRATES names" do
    local_registry("shared/crates")
    local_registry("other/crates")
    expect(fetch(TASKER_CRATES: "../other/crates")).to eq ["", true]
    expect(File.read(config)).to include(%(local-registry = "#{@root}/other/crates"))
  end

  it "replaces the configuration that it wrote for a directory that has moved" do
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

  it "leaves a contributor's own configuration alone and reports why it does not work" do
    local_registry("shared/crates")
    write(config, "[source.crates-io]\n")
    expect(fetch).to eq ["bin/setup: cargo cannot fetch the crates as .cargo/config.toml says: no such host\n", false]
    expect(File.read(config)).to eq "[source.crates-io]\n"
  end

  it "refuses a TASKER_CRATES that is no directory, or lacks a crate" do
    expect(fetch(TASKER_CRATES: "/nowhere").first).to eq "bin/setup: TASKER_CRATES names /nowhere, which is not a directory\n"
    local_registry("incomplete")
    expect(fetch(TASKER_CRATES: "../incomplete"))
      .to eq ["bin/setup: the crates in ../incomplete are not those of Cargo.lock: no such host\n", false]
  end

  it "takes Debian's crates where nothing else is at hand, and says why" do
    expect(fetch).to eq ["bin/setup: the crate registry cannot be reached: no such host\nfrom Debian\n", true]
  end

  it "returns from Debian's crates once others can be had" do
    write("#{checkout}/tmp/debian/in_use")
    write("#{@root}/registry")
    fetch
    expect(File).not_to exist("#{checkout}/tmp/debian/in_use")
  end
end
