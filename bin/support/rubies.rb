# frozen_string_literal: true

require "open3"
require "rbconfig"

# The Rubies of this machine: the current one and those that version managers have installed.
class Rubies
  OLDEST = Gem::Version.new("3.1")
  DIRECTORIES = %w[~/.rbenv/versions ~/.asdf/installs/ruby ~/.local/share/mise/installs/ruby ~/.rubies /opt/rubies
                   ~/.rvm/rubies /opt/homebrew/opt].freeze

  # @param environment [#[]] NATIVE_RUBIES: paths of programs, separated by colons, instead of the installed ones
  # @param directories [Array<String>] of version managers
  def initialize(environment: ENV, directories: DIRECTORIES)
    @environment = environment
    @directories = directories
  end

  # @return [Hash{String => String}] path of the newest program of each version ("3.1")
  def all
    programs.filter_map { |path| (version = version(path)) && [version, path] }
            .sort_by(&:first).to_h { |version, path| [version.segments.first(2).join("."), path] }
  end

  # @return [Gem::Version, nil] nil for another implementation, or a version that is not supported
  def version(path)
    printed, status = Open3.capture2e({ "RUBYOPT" => nil }, path, "-e", "puts RUBY_ENGINE, RUBY_VERSION")
    engine, version = printed.split
    return unless status.success? && engine == "ruby"

    Gem::Version.new(version).then { |found| found if found >= OLDEST }
  rescue SystemCallError
    nil
  end

  private

  def programs
    named = @environment["NATIVE_RUBIES"].to_s.split(File::PATH_SEPARATOR)
    return named if named.any?

    installed = @directories.flat_map { |directory| Dir["#{File.expand_path(directory)}/*/bin/ruby"].sort }
    [*installed.select { |path| File.executable?(path) }, RbConfig.ruby]
  end
end
