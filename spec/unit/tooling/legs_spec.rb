# frozen_string_literal: true

require "open3"
require "tmpdir"
require_relative "../../../bin/support/legs"

# On machines made of fake programs.
RSpec.describe Legs do
  around { |example| Dir.mktmpdir { |directory| (@directory = File.realpath(directory)) && example.run } }

  let(:environment) { { "PATH" => "#{@directory}/bin", "XDG_CACHE_HOME" => "#{@directory}/cache" } }

  before { program("id", "echo 1000") }

  def program(name, script, folder: "bin")
    "#{@directory}/#{folder}/#{name}".tap do |path|
      FileUtils.mkdir_p(File.dirname(path))
      File.write(path, "#!/bin/sh\n#{script}\n")
      File.chmod(0o755, path)
    end
  end

  def ruby(version) = program("ruby", "echo ruby; echo #{version}", folder: "ruby-#{version}")

  def postgresql(version, folder: "pg-#{version}")
    File.dirname(program("postgres", "echo 'postgres (PostgreSQL) #{version}.1'", folder: folder))
  end

  def place(**more)
    described_class.place(described_class::ALL.fetch("rails8"), environment.merge(more.transform_keys(&:to_s)))
  end

  it "is Ruby 3.3, Rails 8.1 and PostgreSQL 17" do
    expect(described_class::ALL.fetch("rails8"))
      .to have_attributes(ruby: "3.3", rails: "~> 8.1.0", postgresql: "17", debian: "trixie")
    expect(described_class::DebianRoot::PACKAGES).to include("postgresql-17")
  end

  it "rejects an unknown name" do
    expect { described_class.prepare("rails9", checkout: @directory) }
      .to raise_error(described_class::Invalid, 'there is no leg "rails9", only rails8')
  end

  it "exits with 1 for a wrong name" do
    command = File.expand_path("../../../bin/support/leg", __dir__)
    { { "LEG_RUBY" => "#{@directory}/none" } => ["rails8", /LEG_RUBY names/], {} => ["rails9", /there is no leg/] }
      .each do |variables, (name, message)|
        output, status = Open3.capture2e(variables, RbConfig.ruby, command, name, "true")
        expect([status.exitstatus, output]).to match([1, message])
      end
  end

  describe "with installed programs" do
    it "runs them in the copy, with gems of its own" do
      program = ruby("3.4.1")
      server = postgresql(18)
      variables, *command, options = place(LEG_RUBY: program, LEG_POSTGRESQL: server)
                                     .command("/copy", { "RAILS_VERSION" => "~> 8.1.0" }, "bin/test", "--ruby")
      expect(command).to eq ["bin/test", "--ruby"]
      expect(options).to eq(chdir: "/copy")
      expect(variables).to include("PATH" => "#{File.dirname(program)}:#{server}:#{@directory}/bin",
                                   "RAILS_VERSION" => "~> 8.1.0", "GEM_HOME" => "/copy/vendor/gems",
                                   "BUNDLE_GEMFILE" => nil, "RUBYOPT" => nil)
    end

    it "finds PostgreSQL in PATH, and needs none with DATABASE_URL" do
      postgresql(16, folder: "bin")
      stub_const("#{described_class}::Installed::POSTGRESQL", [])
      expect { place(LEG_RUBY: ruby("3.3.0")) }
        .to raise_error(described_class::Unavailable, /needs PostgreSQL 17 or later:/)
      expect(place(LEG_RUBY: ruby("3.3.0"), DATABASE_URL: "postgresql:///x")).to be_complete
      postgresql(17, folder: "bin")
      expect(place(LEG_RUBY: ruby("3.3.0"))).to be_complete
    end

    it "rejects programs that are named and too old" do
      expect { place(LEG_RUBY: ruby("3.2.9")) }
        .to raise_error(described_class::Invalid, /LEG_RUBY names .*3.2.9.*, which is not Ruby 3.3 or later/)
      expect { place(LEG_RUBY: ruby("3.3.0"), LEG_POSTGRESQL: postgresql(15)) }
        .to raise_error(described_class::Invalid, /LEG_POSTGRESQL names .*pg-15, which does not contain PostgreSQL/)
    end
  end

  describe "without them" do
    before do
      allow(Rubies).to receive(:new).and_return(instance_double(Rubies, all: {}, version: nil))
      stub_const("#{described_class}::Installed::POSTGRESQL", [])
    end

    it "fails with one sentence that says what to install" do
      expect { place }.to raise_error(described_class::Unavailable) { |error|
        expect(error.message).to eq(
          "the leg rails8 needs Ruby 3.3 or later and PostgreSQL 17 or later: install what is missing (LEG_RUBY " \
          "names the program, LEG_POSTGRESQL the directory of PostgreSQL's programs), or run this as root on Debian, " \
          "where it makes a root directory of Debian trixie with debootstrap"
        )
        expect(error.status).to eq(69), "which .ci/run expects"
      }
    end

    it "makes a Debian root as root where debootstrap is available" do
      program("id", "echo 0")
      program("apt-get", "[ $1 = indextargets ] && echo http://mirror.example/debian bookworm Debian")
      expect { place }.to raise_error(described_class::Unavailable)
      program("debootstrap", "exit")
      expect(place.to_s).to eq "Debian trixie in #{@directory}/cache/tasker_core/legs/rails8/root"
    end

    it "makes none on another distribution" do
      program("id", "echo 0")
      program("debootstrap", "exit")
      program("apt-get", "[ $1 = indextargets ] && echo http://mirror.example/ubuntu noble Ubuntu")
      expect { place }.to raise_error(described_class::Unavailable)
    end

    it "reuses a root that the same recipe has made" do
      program("id", "echo 0")
      mark = "#{@directory}/cache/tasker_core/legs/rails8/made"
      FileUtils.mkdir_p(File.dirname(mark))
      File.write(mark, described_class::DebianRoot::RECIPE)
      expect(place).to be_made
      expect(described_class.made(environment: environment)).to eq ["rails8"]
      File.write(mark, "0")
      expect { place }.to raise_error(described_class::Unavailable)
    end
  end
end

RSpec.describe CheckoutCopy do
  around { |example| Dir.mktmpdir { |directory| (@directory = File.realpath(directory)) && example.run } }

  let(:checkout) { "#{@directory}/checkout" }
  let(:copy) { described_class.new(checkout, "#{@directory}/copy", without: ["Gemfile.lock"]) }

  def write(path, text = path)
    FileUtils.mkdir_p(File.dirname(path))
    File.write(path, text)
  end

  before do
    %w[Gemfile.lock lib/a.rb lib/b.rb tmp/c].each { |path| write("#{checkout}/#{path}") }
    write("#{checkout}/.gitignore", "/tmp/\n")
    system("git", "init", "--quiet", checkout)
  end

  it "has tracked and new files, but no ignored and no excluded ones" do
    copy.refresh
    expect(Dir.glob("**/*", base: copy.root)).to contain_exactly("lib", "lib/a.rb", "lib/b.rb")
  end

  it "keeps its lock file, its build and unchanged files" do
    copy.refresh
    write("#{copy.root}/Gemfile.lock", "its own")
    write("#{copy.root}/lib/library.so")
    File.utime(1, 1, "#{copy.root}/lib/a.rb")
    write("#{checkout}/lib/b.rb", "changed")
    copy.refresh
    expect(File.read("#{copy.root}/Gemfile.lock")).to eq "its own"
    expect(File.exist?("#{copy.root}/lib/library.so")).to be true
    expect(File.mtime("#{copy.root}/lib/a.rb").to_i).to eq 1
    expect(File.read("#{copy.root}/lib/b.rb")).to eq "changed"
  end

  it "removes deleted files" do
    copy.refresh
    File.delete("#{checkout}/lib/b.rb")
    copy.refresh
    expect(File.exist?("#{copy.root}/lib/b.rb")).to be false
  end
end
