# frozen_string_literal: true

require_relative "../../../bin/support/precompiled_gem"

# Installs the precompiled gem from its file in a new application, on a machine without Rust or a C compiler.
#
# With the development build of the extension and without the network. PRECOMPILED names a gem of `rake native` to
# install instead, with `bundle add`: see `rake spec:precompiled`.
RSpec.describe "The precompiled gem" do
  compilers = %w[cargo rustc rustup cc c++ gcc g++ clang clang++ make x86_64-linux-gnu-gcc aarch64-linux-gnu-gcc]

  around { |example| Dir.mktmpdir("precompiled") { |directory| (@directory = directory) && example.run } }

  before do
    @application = GeneratedApplication.new("precompiled", "--api")
    @application.write("Gemfile", "source \"https://rubygems.org\"\n#{locked('rails')}\n#{locked('pg')}\n")
  end

  after { @application.remove }

  def locked(name) = "gem #{name.inspect}, #{Gem.loaded_specs.fetch(name).version.to_s.inspect}"

  def package
    return File.expand_path(ENV["PRECOMPILED"]) if ENV["PRECOMPILED"]

    library = Dir["lib/tasker_core/tasker_core.{so,bundle}"].first
    PrecompiledGem.new(Gem::Specification.load("tasker_core.gemspec"), { RUBY_VERSION[/\d+\.\d+/] => library })
                  .build(@directory)
  end

  # @return [String] a directory with every program of PATH except some
  def programs_without(names)
    FileUtils.mkdir_p("#{@directory}/bin")
    programs = ENV.fetch("PATH").split(File::PATH_SEPARATOR).reverse.flat_map { |path| Dir["#{path}/*"] }
    programs.to_h { |path| [File.basename(path), path] }.except(*names).each do |name, path|
      File.symlink(path, "#{@directory}/bin/#{name}")
    end
    "#{@directory}/bin"
  end

  def environment(**more)
    { BUNDLE_GEMFILE: @application.path("Gemfile"), GEM_HOME: "#{@directory}/gems", GEM_PATH: Gem.path.join(":"),
      BUNDLE_PATH: nil, BUNDLE_BIN_PATH: nil, BUNDLER_VERSION: nil, RUBYOPT: nil, RUBYLIB: nil, **more }
  end

  def add_gem(**environment)
    return @application.run("bundle", "add", "tasker_core", **environment) if ENV["PRECOMPILED"]

    @application.write("Gemfile", "#{@application.read('Gemfile')}gem \"tasker_core\"\n")
    @application.run("bundle", "install", "--local", **environment)
  end

  it "runs the sample in a new application without Rust, within a minute" do
    variables = environment(PATH: programs_without(compilers))
    @application.run("bundle", "install", "--local", **variables)
    @application.run("gem", "install", "--local", "--ignore-dependencies", "--no-document", package, **variables)
    expect { @application.attempt("cargo", **variables) }.to raise_error(Errno::ENOENT)

    started = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    add_gem(**variables)
    @application.run("bin/rails", "g", "tasker_core:install", **variables)
    @application.run("bin/rails", "db:migrate", **variables)
    @application.beside("bin/tasker", "work", **variables) do
      result = @application.run("bin/rails", "runner", <<~RUBY, **variables)
        p SampleGreeting.create!(name: "Ada").wait(timeout: 60).results["greet"]["greeting"]
        Zeitwerk::Loader.eager_load_all
        puts $LOADED_FEATURES.grep(/tasker_core\\.(so|bundle)/)
      RUBY
      seconds = Process.clock_gettime(Process::CLOCK_MONOTONIC) - started
      RSpec.configuration.reporter.message("precompiled gem: #{seconds.round(1)} s from the Gemfile to the result")
      expect(result.lines.first).to eq "\"Good morning, Ada!\"\n"
      expect(result.lines.last).to start_with("#{@directory}/gems/gems/tasker_core-")
        .and include("/#{RUBY_VERSION[/\d+\.\d+/]}/tasker_core.")
      expect(seconds).to be < 60 if ENV["PRECOMPILED"] # otherwise beside other tests
    end
  end
end
