# frozen_string_literal: true

require_relative "../bin/support/legs"
require_relative "../bin/support/precompiled_gem"
require_relative "../bin/support/rubies"
require_relative "../bin/support/sbom"

PACKAGES = "pkg"
# In the checkout even if cargo works elsewhere (bin/support/crates/in_workspace).
CHECKOUT = File.dirname(File.realpath("Gemfile"))

desc "The source gem, in pkg"
task :gem do
  mkdir_p "#{CHECKOUT}/#{PACKAGES}"
  chdir(CHECKOUT, verbose: false) do
    Gem::Package.build(GEMSPEC, false, true, File.expand_path(GEMSPEC.file_name, PACKAGES))
  end
end

desc "The precompiled gem for this platform, in pkg, for every Ruby at hand (or those that NATIVE_RUBIES lists)"
task native: "native:libraries" do
  libraries = Dir["tmp/native/*/tasker_core.{so,bundle}"].to_h { |path| [path.split("/")[-2], File.expand_path(path)] }
  gem = PrecompiledGem.new(GEMSPEC, libraries, root: CHECKOUT)
  warn "native: without a library for Ruby #{gem.gaps.join(' and ')}" if gem.gaps.any?
  puts gem.build("#{CHECKOUT}/#{PACKAGES}")
end

desc "The software bill of materials of the release, in pkg"
task :sbom do
  mkdir_p "#{CHECKOUT}/#{PACKAGES}"
  File.write("#{CHECKOUT}/#{PACKAGES}/#{GEMSPEC.full_name}.cdx.json", "#{Sbom.new(GEMSPEC).to_json}\n")
end

namespace :native do
  # Each Ruby has its own build, because bindgen reads Ruby's headers.
  desc "The extension with the release profile, in tmp/native"
  task :libraries do
    rm_rf "tmp/native"
    Rubies.new.all.each { |version, ruby| build_library(version, ruby) }
    Legs.made.each { |leg| copy_libraries(leg) } unless ENV["NATIVE_RUBIES"]
  end

  # With rb_sys of this bundle, so that the other Ruby needs no gems.
  def build_library(version, ruby)
    directory = File.expand_path("tmp/native/#{version}")
    environment = { "RB_SYS_CARGO_PROFILE" => "release",
                    "RB_SYS_CARGO_TARGET_DIR" => File.expand_path("target/native/#{version}"),
                    "RB_SYS_CARGO_MANIFEST_DIR" => File.expand_path("ext/tasker_core"),
                    "RUBYOPT" => nil, "RUBYLIB" => nil, "BUNDLE_GEMFILE" => nil }
    paths = Gem.loaded_specs.fetch("rb_sys").full_require_paths.flat_map { |path| ["-I", path] }
    mkdir_p directory
    sh(environment, ruby, *paths, File.expand_path("ext/tasker_core/extconf.rb"), chdir: directory)
    sh(environment, "make", chdir: directory)
  end

  def copy_libraries(leg)
    sh "#{CHECKOUT}/bin/support/leg", leg, "bundle", "exec", "rake", "native:libraries"
    Dir["#{CHECKOUT}/#{Legs::COPIES}/#{leg}/tmp/native/*"].each do |directory|
      cp_r directory, "tmp/native" unless File.exist?("tmp/native/#{File.basename(directory)}")
    end
  end
end
