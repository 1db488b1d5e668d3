# frozen_string_literal: true

require "fileutils"
require "open3"
require_relative "checkout_copy"
require_relative "rubies"

# Runs commands with a later Ruby, Rails and PostgreSQL than those of the checkout: in a copy of it, with its own build,
# lock file and gems. `bin/support/leg` is its command line.
module Legs
  # The versions of a leg: the oldest Ruby, Rails, the oldest PostgreSQL, and the release of Debian that has both.
  Leg = Struct.new(:name, :ruby, :rails, :postgresql, :debian, keyword_init: true)
  ALL = [Leg.new(name: "rails8", ruby: "3.3", rails: "~> 8.1.0", postgresql: "17", debian: "trixie")]
        .to_h { |leg| [leg.name, leg] }.freeze
  # Where a leg is kept: its copy in the checkout, its Debian root, which all checkouts share, in the user's cache.
  COPIES = "tmp/legs"
  CACHE = "tasker_core/legs"

  # A reason why nothing was run; the message is one sentence.
  class Error < StandardError
    # @return [Integer] exit status of `bin/support/leg`
    def status = 1
  end

  # A wrong name of a leg, Ruby or PostgreSQL.
  class Invalid < Error; end

  # This machine cannot run the leg.
  class Unavailable < Error
    # EX_UNAVAILABLE of sysexits.h
    def status = 69
  end

  # @param name [String] of a leg
  # @return [Run]
  # @raise [Unavailable] if the machine lacks something
  # @raise [Invalid] if there is no such leg, or LEG_RUBY or LEG_POSTGRESQL names a wrong program
  def self.prepare(name, checkout:, environment: ENV)
    leg = ALL.fetch(name) { raise Invalid, "there is no leg #{name.inspect}, only #{ALL.keys.join(', ')}" }
    Run.new(leg, checkout: checkout, place: place(leg, environment))
  end

  # @return [Array<String>] names of the legs whose root directory has been made
  def self.made(environment: ENV)
    ALL.values.select { |leg| DebianRoot.new(leg, environment: environment).made? }.map(&:name)
  end

  # @return [Installed, DebianRoot]
  def self.place(leg, environment)
    installed = Installed.new(leg, environment: environment)
    return installed if installed.complete?

    root = DebianRoot.new(leg, environment: environment)
    return root if root.possible?

    raise Unavailable, "the leg #{leg.name} needs #{installed.missing}: install what is missing (LEG_RUBY names the " \
                       "program, LEG_POSTGRESQL the directory of PostgreSQL's programs), or run this as root on " \
                       "Debian, where it makes a root directory of Debian #{leg.debian} with debootstrap"
  end

  # One run of commands in a leg.
  class Run
    # @param place [Installed, DebianRoot]
    def initialize(leg, checkout:, place:)
      @leg = leg
      @checkout = checkout
      @place = place
      @copy = CheckoutCopy.new(checkout, File.join(checkout, COPIES, leg.name), without: ["Gemfile.lock"])
    end

    # @return [String] the directory of the copy
    def directory = @copy.root

    # Updates the copy and sets it up, then replaces this process by the command.
    # @param command [Array<String>]
    def exec(*command)
      warn "leg #{@leg.name}: #{@place}"
      @copy.refresh
      @place.prepare(@checkout, directory)
      # Two checkouts may share the place's gems.
      @place.locked do
        system(*@place.command(directory, variables, "bin/setup")) || abort("leg #{@leg.name}: bin/setup failed")
      end
      Kernel.exec(*@place.command(directory, variables, *command))
    end

    private

    # Another Bundler than the lock file's would start itself again, with another Ruby.
    def variables
      { "RAILS_VERSION" => @leg.rails, "BUNDLE_VERSION" => "system", "BUNDLE_SILENCE_ROOT_WARNING" => "1" }
    end
  end

  # The leg's programs as this machine has them.
  class Installed
    POSTGRESQL = %w[/usr/lib/postgresql/%s/bin /opt/homebrew/opt/postgresql@%s/bin /usr/local/opt/postgresql@%s/bin
                    /usr/pgsql-%s/bin].freeze
    # Variables with which this process runs its own Ruby.
    OTHERS = %w[BUNDLE_BIN_PATH BUNDLE_GEMFILE BUNDLER_VERSION GEM_HOME GEM_PATH RUBYLIB RUBYOPT
                CARGO_TARGET_DIR].freeze

    def initialize(leg, environment: ENV, rubies: Rubies.new)
      @leg = leg
      @environment = environment
      @rubies = rubies
    end

    def to_s = "#{ruby}#{", #{postgresql}" if postgresql}"

    def complete? = missing.nil?

    # @return [String, nil] what is not installed
    def missing
      missing = []
      missing << "Ruby #{@leg.ruby} or later" unless ruby
      missing << "PostgreSQL #{@leg.postgresql} or later" unless postgresql || server
      missing.join(" and ") if missing.any?
    end

    def prepare(_checkout, _directory) = nil

    def locked = yield

    # @return [Array] arguments of `exec`
    def command(directory, variables, *command)
      path = [File.dirname(ruby), postgresql, @environment["PATH"]].compact.join(File::PATH_SEPARATOR)
      # Not BUNDLE_PATH, which tests lose when they leave the bundle.
      gems = File.join(directory, "vendor/gems")
      [{ **OTHERS.to_h { |name| [name, nil] }, **variables, "PATH" => path, "GEM_HOME" => gems },
       *command, { chdir: directory }]
    end

    private

    def ruby
      return @ruby if defined?(@ruby)

      named = present("LEG_RUBY")
      raise Invalid, "LEG_RUBY names #{named}, which is not Ruby #{@leg.ruby} or later" if named && !ruby?(named)

      @ruby = named || @rubies.all.values.reverse.find { |program| ruby?(program) }
    end

    def ruby?(program) = @rubies.version(program).then { |version| version && version >= Gem::Version.new(@leg.ruby) }

    # @return [String, nil] the directory of PostgreSQL's programs
    def postgresql
      named = present("LEG_POSTGRESQL")
      return [*@environment["PATH"].split(File::PATH_SEPARATOR), *standard].find { |path| server?(path) } unless named
      return named if server?(named)

      raise Invalid, "LEG_POSTGRESQL names #{named}, which does not contain PostgreSQL #{@leg.postgresql} or later"
    end

    def standard = POSTGRESQL.map { |pattern| format(pattern, @leg.postgresql) }

    def server?(directory)
      printed, status = Open3.capture2e(File.join(directory, "postgres"), "--version")
      status.success? && printed[/\d+/].to_i >= @leg.postgresql.to_i
    rescue SystemCallError
      false
    end

    def server = present("DATABASE_URL")

    def present(name) = @environment[name].then { |value| value unless value.to_s.empty? }
  end

  # A root directory of a later Debian, made with debootstrap and entered with chroot. Its mounts are in a namespace of
  # the command's own: nothing stays mounted when the command has ended.
  class DebianRoot
    # Everything for bin/setup, so that it is installed once, with the root.
    PACKAGES = %w[ruby ruby-dev bundler build-essential libclang1-19 libclang-common-19-dev libpq-dev libyaml-dev
                  libffi-dev zlib1g-dev pkg-config postgresql-17 pgbouncer redis-server iproute2 iptables
                  ca-certificates git procps].freeze
    KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
    # A root that was made by another recipe is made again.
    RECIPE = "2"
    PASSED = /\A(CI|TERM|DATABASE_URL|SPEC_OPTS|(TASKER|PROPTEST|PARALLEL|BUNDLE_MIRROR)_.*|(https?|no|all)_proxy)\z/i
    MAKE = <<~'SH'
      unshare -m debootstrap --variant=minbase --keyring="$keyring" "$suite" "$root" "$mirror"
      printf 'Acquire::Check-Valid-Until "false";\nAPT::Install-Recommends "false";\nAPT::Sandbox::User "root";\n' \
        >"$root/etc/apt/apt.conf.d/99leg"
      printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # starts no service
      chmod 755 "$root/usr/sbin/policy-rc.d"
      cp /etc/resolv.conf "$root/etc/resolv.conf"
      unshare -m sh -euc 'mount -t proc proc "$root/proc"
        chroot "$root" sh -euc "apt-get -q update; DEBIAN_FRONTEND=noninteractive apt-get -q -y install $packages; apt-get clean"'
      mkdir -p "$root/toolchain"
    SH
    # Cargo and rustc are this machine's. The copy has its own path, so that the build's absolute paths hold.
    ENTER = <<~SH
      cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
      if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
        cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
      fi
      mkdir -p "$root$directory"
      mount -t proc proc "$root/proc"
      mount --rbind /dev "$root/dev"
      mount --bind "$toolchain" "$root/toolchain"
      mount -o remount,bind,ro "$root/toolchain"
      mount --bind "$directory" "$root$directory"
      exec chroot "$root" sh -euc 'cd "$0"; exec "$@"' "$directory" "$@"
    SH
    VARIABLES = { "HOME" => "/root", "LANG" => "C.UTF-8", "CARGO_HOME" => "/root/.cargo",
                  "PATH" => "/toolchain/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" }.freeze
    private_constant :MAKE, :ENTER, :VARIABLES, :PASSED

    def initialize(leg, environment: ENV)
      @leg = leg
      @environment = environment
    end

    def to_s = "Debian #{@leg.debian} in #{root}"

    def made? = File.exist?(mark) && File.read(mark) == RECIPE

    def possible? = root? && (made? || (mirror && debootstrap?))

    # Makes the root, and the copy's own sources of crates.
    def prepare(checkout, directory)
      locked { made? || make }
      vendor(checkout, directory)
    end

    def locked
      FileUtils.mkdir_p(home)
      File.open("#{home}/lock", File::CREAT | File::RDWR) do |file|
        file.flock(File::LOCK_EX)
        yield
      end
    end

    def command(directory, variables, *command)
      passed = @environment.to_h.select { |name, _| name.match?(PASSED) }
      [{ **passed, **VARIABLES, **variables, "root" => root, "directory" => directory, "toolchain" => toolchain },
       "unshare", "-m", "sh", "-euc", ENTER, "leg", *command, { unsetenv_others: true }]
    end

    private

    def home = File.join(@environment["XDG_CACHE_HOME"] || File.expand_path("~/.cache"), CACHE, @leg.name)

    def root = File.join(home, "root")

    def mark = File.join(home, "made")

    def root? = run("id", "-u") == "0"

    def debootstrap?
      program?("debootstrap") || (run("apt-get", "-q", "-y", "install", "debootstrap") && program?("debootstrap"))
    end

    def make
      warn "leg #{@leg.name}: making #{root} with debootstrap, once"
      FileUtils.rm_rf([root, mark])
      FileUtils.mkdir_p(root)
      log = File.join(home, "log")
      made = system({ "root" => root, "suite" => @leg.debian, "mirror" => mirror, "keyring" => KEYRING,
                      "packages" => PACKAGES.join(" ") }, "sh", "-euc", MAKE, %i[out err] => log)
      raise Unavailable, "debootstrap failed: #{File.readlines(log).last(3).join(' ').strip} (#{log})" unless made

      File.write(mark, RECIPE)
    end

    # The mirror that this machine's apt uses for Debian itself.
    def mirror
      @mirror ||= run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(ORIGIN)",
                      "Created-By: Packages").to_s.lines.map(&:split)
                  .find { |_, codename, origin| origin == "Debian" && !codename.include?("security") }&.first
    end

    # The crates of Cargo.lock from this machine's source of crates, so that the root needs none. With Debian's crates
    # (bin/support/crates/from_debian), the copy unpacks its own.
    def vendor(checkout, directory)
      run!(File.join(checkout, "bin/support/crates/fetch"), chdir: checkout)
      return if File.exist?(File.join(checkout, "tmp/debian/in_use")) || vendored?(checkout, directory)

      FileUtils.rm_rf(File.join(directory, "vendor/crates"))
      run!("cargo", "vendor", "--locked", "--quiet", "--respect-source-config", "--versioned-dirs",
           File.join(directory, "vendor/crates"), chdir: checkout)
      FileUtils.mkdir_p(File.join(directory, ".cargo"))
      File.write(File.join(directory, ".cargo/config.toml"), <<~TOML)
        [source.crates-io]
        replace-with = "vendored"

        [source.vendored]
        directory = "vendor/crates"
      TOML
      FileUtils.cp(File.join(checkout, "Cargo.lock"), File.join(directory, "vendor/Cargo.lock"))
    end

    def vendored?(checkout, directory)
      lock = File.join(directory, "vendor/Cargo.lock")
      File.exist?(lock) && FileUtils.identical?(lock, File.join(checkout, "Cargo.lock"))
    end

    def toolchain
      @toolchain ||= run("rustc", "--print", "sysroot").tap do |path|
        next if path && File.executable?("#{path}/bin/cargo")

        raise Unavailable, "cargo is not in the toolchain of rustc: install Rust from https://rustup.rs"
      end
    end

    def program?(name)
      @environment["PATH"].to_s.split(File::PATH_SEPARATOR).any? { |path| File.executable?(File.join(path, name)) }
    end

    # @return [String, nil] what it prints; nil when it fails
    def run(*command, **options)
      printed, status = Open3.capture2(@environment.to_h, *command, **options, err: File::NULL)
      printed.strip if status.success?
    rescue SystemCallError
      nil
    end

    def run!(*command, **options)
      output, status = Open3.capture2e(@environment.to_h, *command, **options)
      raise Unavailable, "`#{File.basename(command.first)}` failed: #{output.strip.lines.last}" unless status.success?
    end
  end
end
