# frozen_string_literal: true

require "fileutils"
require "rubygems/package"
require "rubygems/user_interaction"
require "tmpdir"

# The gem for one platform, with the extension built for one or several versions of Ruby in lib/tasker_core/3.1 and so
# on. It installs without Rust. `rake native` makes it for this machine, the release workflow for every platform.
class PrecompiledGem
  # Removes what only a build of the extension needs.
  # @param specification [Gem::Specification] of the source gem; changed
  # @return [Gem::Specification]
  def self.strip(specification)
    specification.files = specification.files.grep_v(%r{\ACargo\.|\Aext/.*(?<!\.md)\z})
    specification.dependencies.reject! { |dependency| dependency.name == "rb_sys" }
    specification.extensions.clear
    specification
  end

  # @return [String] such as x86_64-linux, x86_64-linux-musl, arm64-darwin
  def self.platform
    local = Gem::Platform.local
    [local.cpu, local.os, local.version.to_s[/musl/]].compact.join("-")
  end

  # @param source [Gem::Specification] of the source gem
  # @param libraries [Hash{String => String}] path of the extension's library, by version of Ruby ("3.1")
  # @param root [String] the checkout
  def initialize(source, libraries, root: Dir.pwd)
    @source = source
    @libraries = libraries.sort_by { |version, _| Gem::Version.new(version) }.to_h
    @root = root
  end

  # @param directory [String] where to write the gem
  # @return [String] its path
  def build(directory)
    path = File.expand_path(specification.file_name, directory)
    FileUtils.mkdir_p(directory)
    Dir.mktmpdir do |stage|
      copy(stage)
      Gem::DefaultUserInteraction.use_ui(Gem::SilentUI.new) do
        Dir.chdir(stage) { Gem::Package.build(specification, false, true, path) }
      end
    end
    path
  end

  # @return [Gem::Specification]
  def specification
    @specification ||= self.class.strip(@source.dup).tap do |specification|
      specification.files += placed.keys
      specification.platform = Gem::Platform.new(self.class.platform)
      versions = @libraries.keys
      specification.required_ruby_version = [">= #{versions.first}", "< #{versions.last.succ}.dev"]
    end
  end

  # @return [Array<String>] the versions of Ruby that its range accepts and that it has no library for
  def gaps
    first, last = @libraries.keys.minmax_by { |version| Gem::Version.new(version) }
    (first..last).to_a - @libraries.keys
  end

  private

  def placed
    @libraries.to_h { |version, path| ["lib/tasker_core/#{version}/#{File.basename(path)}", path] }
  end

  def copy(stage)
    sources = specification.files.to_h { |path| [path, File.join(@root, path)] }.merge(placed)
    sources.each do |path, source|
      next if File.directory?(source)

      FileUtils.mkdir_p(File.join(stage, File.dirname(path)))
      FileUtils.cp(source, File.join(stage, path))
    end
  end
end
