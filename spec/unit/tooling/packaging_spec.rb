# frozen_string_literal: true

require "open3"
require "tmpdir"
require_relative "../../../ext/tasker_core/build_requirements"

# The extension is compiled from the packaged files on the user's machine.
RSpec.describe "The gem's files" do
  subject(:files) { Gem::Specification.load("tasker_core.gemspec").files }

  let(:members) { File.read("Cargo.toml")[/^members = \[(.*)\]$/, 1].scan(/"([^"]+)"/).flatten }

  it "include every workspace member, which cargo needs" do
    expect(members).to include("ext/orchestrator", "ext/tasker_core")
    expect(files).to include("Cargo.toml", "Cargo.lock")
    expect(files).to include(*members.map { |member| "#{member}/Cargo.toml" })
    expect(files).to include(*members.map { |member| "#{member}/src/lib.rs" })
  end

  it "include all files that generators read" do
    read = Dir.glob("lib/generators/**/*", File::FNM_DOTMATCH).select { |path| File.file?(path) }
    expect(read.grep(/\.tt\z/)).not_to be_empty
    expect(files).to include(*read, *Dir["db/migrate/*.rb"], "config/tasker-core.yaml")
  end

  it "include what extconf.rb requires" do
    expect(files).to include("ext/tasker_core/extconf.rb", "ext/tasker_core/build_requirements.rb")
  end

  it "include every document that the README links to" do
    expect(files).to include(*File.read("README.md").scan(%r{\]\((docs/\w+\.md)}).flatten.uniq)
  end

  it "include nothing for contributors only" do
    expect(files.map { |path| path[%r{\A[^/]+}] }.uniq)
      .to match_array %w[.yardopts CHANGELOG.md Cargo.lock Cargo.toml LICENSE README.md app config db docs exe ext lib
                         sig]
    expect(files.grep(%r{\Aext/[^/]+/tests/})).to be_empty
  end
end

RSpec.describe "The gem's specification" do
  subject(:specification) { Gem::Specification.load("tasker_core.gemspec") }

  it "has the version of Cargo.toml and both lock files" do
    crates = File.read("Cargo.lock").scan(/^name = "tasker_(\w+)"\nversion = "(.+)"$/).to_h
    expect(crates.keys).to include("core", "orchestrator")
    expect([File.read("Cargo.toml")[/^version = "(.+)"$/, 1], *crates.values,
            File.read("Gemfile.lock")[/^    tasker_core \((.+)\)$/, 1]])
      .to all(eq(TaskerCore::VERSION))
  end

  it "links to its version's documentation and requires MFA" do
    expect(specification.metadata).to include(
      "documentation_uri" => "https://www.rubydoc.info/gems/tasker_core/#{TaskerCore::VERSION}",
      "changelog_uri" => "https://www.rubydoc.info/gems/tasker_core/#{TaskerCore::VERSION}/file/CHANGELOG.md",
      "rubygems_mfa_required" => "true"
    )
  end

  it "links to source and issues in its repository" do
    text = File.read("tasker_core.gemspec").sub(/repository = .*/, 'repository = "https://example.org/tasker_core"')
    expect(TOPLEVEL_BINDING.eval(text, File.expand_path("tasker_core.gemspec")).metadata)
      .to include("source_code_uri" => "https://example.org/tasker_core/tree/v#{TaskerCore::VERSION}",
                  "bug_tracker_uri" => "https://example.org/tasker_core/issues")
  end
end

RSpec.describe TaskerCore::BuildRequirements do
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }

  let(:manifest) { file("Cargo.toml", "[workspace.package]\nrust-version = \"1.94\"\n") }

  def file(name, text, mode: 0o644)
    File.join(@directory, name).tap do |path|
      FileUtils.mkdir_p(File.dirname(path))
      File.write(path, text)
      File.chmod(mode, path)
    end
  end

  def program(name, script) = file("bin/#{name}", "#!/bin/sh\n#{script}\n", mode: 0o755)

  def rust(cargo: "1.94.0", rustc: cargo)
    program("cargo", "echo 'cargo #{cargo} (abc 2026-01-01)'") if cargo
    program("rustc", "echo 'rustc #{rustc} (abc 2026-01-01)'") if rustc
  end

  def requirements(**variables)
    environment = { "PATH" => "#{@directory}/bin" }.merge(variables.transform_keys(&:to_s))
    described_class.new(environment: environment, manifest: manifest, directories: ["#{@directory}/lib*"])
  end

  before do
    file("lib64/libclang-19.so.1", "")
    allow(Gem::Specification).to receive(:find_all_by_name).with("libclang").and_return([])
  end

  it "accepts the oldest supported Rust and libclang" do
    rust
    expect(requirements.problem).to be_nil
    expect(requirements).to be_rust.and be_libclang
  end

  it "compares versions as numbers" do
    rust(cargo: "1.100.1")
    expect(requirements.problem).to be_nil
  end

  it "reads the Rust version from the workspace's manifest" do
    expect(described_class.new.oldest_rust).to eq File.read("Cargo.toml")[/rust-version = "(.*)"/, 1]
    expect(File.read("README.md")).to include("Rust #{described_class.new.oldest_rust} or later")
  end

  it "explains where to get Rust when a program is missing" do
    expect(requirements.problem)
      .to eq "tasker_core cannot be built: Rust 1.94 or later is required, but `cargo` is not in PATH (install it " \
             "from https://rustup.rs)"
    rust(rustc: nil)
    expect(requirements.problem).to include("`rustc` is not in PATH")
  end

  it "explains how to update an old cargo or rustc" do
    rust(cargo: "1.93.1")
    expect(requirements.problem)
      .to include("Rust 1.94 or later is required, but `cargo` is 1.93.1 (run `rustup update stable`")
    rust(rustc: "1.75.0")
    expect(requirements.problem).to include("`rustc` is 1.75.0")
  end

  it "explains how to choose a toolchain when rustup has none" do
    program("cargo", "echo 'rustup could not choose a version of cargo' >&2; exit 1")
    expect(requirements.problem).to include("`cargo --version` fails (run `rustup default stable`")
  end

  it "checks the programs that the build will use" do
    rust(cargo: "1.10.0")
    expect(requirements(CARGO: program("newer", "echo cargo 1.95.0"), RUSTC: "#{@directory}/bin/newer").problem)
      .to be_nil
  end

  it "leaves Rust to rb_sys when it fetches a toolchain" do
    expect(requirements(RB_SYS_FORCE_INSTALL_RUST_TOOLCHAIN: "true").problem).to be_nil
    expect(requirements(RB_SYS_FORCE_INSTALL_RUST_TOOLCHAIN: "false").problem).to include("cargo")
  end

  describe "libclang" do
    before { rust }

    def without_libclang = FileUtils.rm_r("#{@directory}/lib64")

    it "must be installed when no directory has it" do
      without_libclang
      file("lib64/libclang-cpp.so.19", "")
      expect(requirements.problem)
        .to match(/\Atasker_core cannot be built: libclang is required, .*libclang-dev \(Debian, Ubuntu\)/)
    end

    it "must be in LIBCLANG_PATH when that is set" do
      expect(requirements(LIBCLANG_PATH: "/nowhere").problem)
        .to include("LIBCLANG_PATH names /nowhere, which does not contain it")
    end

    it "is found by path, llvm-config, linker or gem" do
      without_libclang
      library = file("elsewhere/lib/libclang.so", "")
      expect(requirements(LIBCLANG_PATH: File.dirname(library)).problem).to be_nil
      expect(requirements(LIBCLANG_PATH: library).problem).to be_nil
      expect(requirements(LD_LIBRARY_PATH: "/nowhere:#{File.dirname(library)}").problem).to be_nil
      allow(Gem::Specification).to receive(:find_all_by_name).with("libclang").and_return([:gem])
      expect(requirements.problem).to be_nil
      allow(Gem::Specification).to receive(:find_all_by_name).with("libclang").and_return([])
      program("llvm-config", "echo #{@directory}/elsewhere")
      expect(requirements.problem).to be_nil
    end

    it "is not searched for where its directories are unknown" do
      without_libclang
      unknown = described_class.new(environment: { "PATH" => "#{@directory}/bin" }, manifest: manifest,
                                    directories: nil)
      expect(unknown.problem).to be_nil
    end
  end

  it "reports everything that is missing in one sentence" do
    FileUtils.rm_r("#{@directory}/lib64")
    expect(requirements.problem).to include("rustup.rs); libclang is required")
    expect(requirements.problem.lines.size).to eq 1
  end
end

# Uses a cargo that builds nothing, so that the gem installs within seconds.
RSpec.describe "The gem's installation" do
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }

  def program(name, script)
    path = "#{@directory}/bin/#{name}"
    FileUtils.mkdir_p(File.dirname(path))
    File.write(path, "#!/bin/sh\n#{script}\n")
    File.chmod(0o755, path)
  end

  def cargo(version)
    program("rustc", "echo rustc #{version}")
    program("cargo", <<~SH)
      [ "$1" = --version ] && { echo cargo #{version}; exit; }
      while [ "$1" != --target-dir ]; do shift; done
      mkdir -p "$2/release/build" "$2/x86_64/release"
      for library in "$2/release/libtasker_core.so" "$2/x86_64/release/other.so"; do echo library > "$library"; done
      cp "$2/release/libtasker_core.so" "$2/release/libtasker_core.dylib"
    SH
  end

  # The gem that the extension's build loads, with its dependencies. Not every `gem` passes GEM_PATH on to the build.
  def provide(name)
    gem = Gem.loaded_specs[name] || Gem::Specification.find_by_name(name)
    { "gems" => gem.full_gem_path, "specifications" => gem.loaded_from }.each do |folder, source|
      FileUtils.mkdir_p("#{@directory}/gems/#{folder}")
      FileUtils.ln_sf(source, "#{@directory}/gems/#{folder}")
    end
    gem.runtime_dependencies.each { |dependency| provide(dependency.name) }
  end

  # @return [Array(String, Process::Status)]
  def install
    provide("rb_sys")
    package = "#{@directory}/tasker_core.gem"
    environment = { "GEM_HOME" => "#{@directory}/gems", "GEM_PATH" => nil,
                    "PATH" => "#{@directory}/bin:#{ENV.fetch('PATH')}", "LIBCLANG_PATH" => library, "RUBYOPT" => nil,
                    "CARGO" => nil, "RUSTC" => nil, "CARGO_BUILD_TARGET" => nil }
    Bundler.with_unbundled_env do
      # In the checkout even where cargo works elsewhere (bin/support/crates/in_workspace).
      built = Open3.capture2e(environment, "gem", "build", "--strict", "tasker_core.gemspec", "--output", package,
                              chdir: File.dirname(File.realpath("Gemfile")))
      raise built.first unless built.last.success?

      Open3.capture2e(environment, "gem", "install", "--local", "--ignore-dependencies", "--no-document", package)
    end
  end

  def library = "#{@directory}/libclang.so".tap { |path| File.write(path, "") }

  it "leaves one library in the gem and no build files" do
    cargo("99.0.0")
    output, status = install
    expect(status).to be_success, output
    gem = Dir["#{@directory}/gems/gems/tasker_core-*"].first
    expect(Dir.glob("#{gem}/**/*.{so,bundle,dylib}").map { |path| path.delete_prefix("#{gem}/") })
      .to eq ["lib/tasker_core/tasker_core.#{RbConfig::CONFIG['DLEXT']}"]
    expect(Dir.children("#{gem}/ext/tasker_core")).not_to include("target")
  end

  it "stops before the build when Rust is too old" do
    cargo("1.0.0")
    output, status = install
    expect(status).not_to be_success
    expect(output).to match(/^tasker_core cannot be built: Rust [\d.]+ or later is required, but `cargo` is 1.0.0/)
    expect(Dir.glob("#{@directory}/gems/gems/*/ext/tasker_core/Makefile")).to be_empty
  end
end

RSpec.describe "The release profile" do
  it "strips the library" do
    expect(File.read("Cargo.toml")[/^\[profile\.release\]\n(?:.+\n)*/]).to include("strip = true")
  end
end
