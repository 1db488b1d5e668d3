# frozen_string_literal: true

require "fileutils"
require "open3"

# A copy of a checkout in its `tmp`, with a build of its own: tracked files, and new files that git does not ignore.
class CheckoutCopy
  attr_reader :root

  # @param checkout [String]
  # @param root [String] of the copy
  # @param without [Array<String>] paths that are not copied
  def initialize(checkout, root, without: [])
    @checkout = checkout
    @root = root
    @without = without
  end

  # Updates the copy. Unchanged files keep their times, so that they cause no build.
  # @param more [Array<String>] paths of ignored files to copy too
  def refresh(more = [])
    FileUtils.mkdir_p(@root)
    copied = (tracked - @without).each { |path| copy(path) }
    more.each { |path| copy(path) }
    remove_all_but(copied)
  end

  private

  def tracked
    names, status = Open3.capture2("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard",
                                   chdir: @checkout)
    raise "git ls-files failed in #{@checkout}" unless status.success?

    names.split("\0").select { |path| File.file?(File.join(@checkout, path)) }
  end

  def copy(path)
    from, to = [@checkout, @root].map { |root| File.join(root, path) }
    return if File.file?(to) && FileUtils.identical?(from, to)

    FileUtils.mkdir_p(File.dirname(to))
    FileUtils.cp(from, to)
    File.chmod(File.stat(from).mode, to)
  end

  def remove_all_but(copied)
    sources = Dir.glob("{app,bench,bin,config,db,demo,exe,ext,lib,rakelib,sig,spec}/**/*", base: @root)
    stale = sources.select { |path| File.file?(File.join(@root, path)) } - copied
    stale.grep_v(%r{/(log|tmp)/|\.(so|bundle)\z}).each { |path| File.delete(File.join(@root, path)) }
  end
end
