# frozen_string_literal: true

require "open3"
require "rbconfig"

module TaskerCore
  # Checks what a build of the extension needs beside Ruby and a C compiler: Rust of the version that Cargo.toml names,
  # and libclang, with which bindgen reads Ruby's headers. Cargo reports that either is missing only after minutes, in
  # the middle of a long log. Used by `extconf.rb` and `bin/setup`; needs no gem.
  class BuildRequirements
    RUST_REMEDY = "install it from https://rustup.rs"
    LIBCLANG_REMEDY = "install libclang-dev (Debian, Ubuntu), clang-devel (Fedora), clang-dev (Alpine), clang (Arch) " \
                      "or Xcode's command line tools, or set LIBCLANG_PATH to its directory"
    # The directories that bindgen's clang-sys searches, besides those of `llvm-config` and the environment.
    LIBCLANG_DIRECTORIES = {
      "linux" => %w[/usr/local/llvm*/lib* /usr/local/lib* /usr/local/lib*/* /usr/local/lib*/*/* /usr/lib* /usr/lib*/*
                    /usr/lib*/*/*],
      "darwin" => %w[/Library/Developer/CommandLineTools/usr/lib /usr/local/opt/llvm*/lib /opt/homebrew/opt/llvm*/lib
                     /Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib]
    }.freeze
    LIBCLANG_FILES = "libclang{,-*}.{so,so.*,dylib}"
    private_constant :RUST_REMEDY, :LIBCLANG_REMEDY, :LIBCLANG_DIRECTORIES, :LIBCLANG_FILES

    # @param environment [#[]] PATH, CARGO, RUSTC, LIBCLANG_PATH and so on
    # @param manifest [String] path of the workspace's Cargo.toml
    # @param directories [Array<String>, nil] patterns of the directories to search for libclang; nil for a system whose
    #   directories are unknown: its presence is then not checked
    def initialize(environment: ENV, manifest: File.expand_path("../../Cargo.toml", __dir__),
                   directories: LIBCLANG_DIRECTORIES[RbConfig::CONFIG["host_os"][/linux|darwin/]])
      @environment = environment
      @manifest = manifest
      @directories = directories
    end

    # @return [String, nil] one sentence that names everything that is missing and how to install it
    def problem
      problems = [rust_problem, libclang_problem].compact
      "tasker_core cannot be built: #{problems.join('; ')}" if problems.any?
    end

    # @return [Boolean]
    def rust? = rust_problem.nil?

    # @return [Boolean]
    def libclang? = libclang_problem.nil?

    # @return [String] the oldest version of Rust that builds the extension, as Cargo.toml says
    def oldest_rust = File.read(@manifest)[/^rust-version = "([\d.]+)"/, 1] || raise("#{@manifest} has no rust-version")

    private

    # Cargo and rustc have different versions if they come from separate packages.
    def rust_problem
      return if installs_rust?

      [%w[cargo CARGO], %w[rustc RUSTC]].each do |name, variable|
        program = present(variable) || name
        output = run(program, "--version")
        rustup = "(run `rustup %s stable`, or #{RUST_REMEDY})"
        return "#{needed} but `#{program}` is not in PATH (#{RUST_REMEDY})" unless output
        return "#{needed} but `#{program} --version` fails #{format(rustup, 'default')}" if output.empty?

        version = output[/\d+\.\d+[\d.]*/]
        return "#{needed} but `#{program}` is #{version} #{format(rustup, 'update')}" if old?(version)
      end
      nil
    end

    # rb_sys then fetches a toolchain for this build only.
    def installs_rust? = ![nil, "false"].include?(present("RB_SYS_FORCE_INSTALL_RUST_TOOLCHAIN"))

    def needed = "Rust #{oldest_rust} or later is required,"

    def old?(version) = Gem::Version.new(version) < Gem::Version.new(oldest_rust)

    def libclang_problem
      if (path = present("LIBCLANG_PATH"))
        return if File.file?(path) || any_libclang?([path])

        return "libclang is required, but LIBCLANG_PATH names #{path}, which does not contain it (#{LIBCLANG_REMEDY})"
      end
      return if @directories.nil? || any_libclang?(directories_at_hand) || libclang_gem?

      "libclang is required, but none of the directories that bindgen searches contains it (#{LIBCLANG_REMEDY})"
    end

    def directories_at_hand
      prefix = run(present("LLVM_CONFIG_PATH") || "llvm-config", "--prefix").to_s.strip
      llvm = prefix.empty? ? [] : %w[bin lib lib64].map { |name| File.join(prefix, name) }
      named = %w[LD_LIBRARY_PATH LIBRARY_PATH].flat_map { |name| present(name).to_s.split(File::PATH_SEPARATOR) }
      llvm + named + @directories
    end

    def any_libclang?(directories)
      found = directories.flat_map { |directory| Dir.glob(File.join(directory, LIBCLANG_FILES)) }
      found.any? { |path| File.file?(path) && !path.include?("-cpp.") } # libclang-cpp is another library
    end

    # The gem that contains the library; rb_sys uses it if it is installed.
    def libclang_gem? = Gem::Specification.find_all_by_name("libclang").any?

    def present(variable) = @environment[variable].then { |value| value unless value.to_s.empty? }

    # @return [String, nil] what the program prints; empty when it fails, nil when it is not in PATH
    def run(program, *arguments)
      output, status = Open3.capture2e(@environment.to_h.slice("PATH"), program, *arguments)
      status.success? ? output : ""
    rescue SystemCallError
      nil
    end
  end
end
