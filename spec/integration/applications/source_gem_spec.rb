# frozen_string_literal: true

# Installs the source gem from its file, outside the checkout, where there is only cargo and its source of crates. Takes
# minutes: `rake spec:packages`, which sets SOURCE_GEM to the file.
RSpec.describe "The source gem", if: ENV["SOURCE_GEM"] do
  around { |example| Dir.mktmpdir("source_gem") { |directory| (@directory = directory) && example.run } }

  # Cargo reads the configuration of the directories above its own.
  def configure_cargo
    return unless File.exist?(".cargo/config.toml")

    FileUtils.mkdir_p("#{@directory}/.cargo")
    FileUtils.cp(".cargo/config.toml", "#{@directory}/.cargo")
  end

  def run(*command)
    # `rake native` has built the crates of others there; the gem's own are built again, because their path differs.
    target = File.expand_path("target/native/#{RUBY_VERSION[/\d+\.\d+/]}")
    environment = { "GEM_HOME" => "#{@directory}/gems", "GEM_PATH" => Gem.path.join(":"), "RUBYOPT" => nil,
                    "RUBYLIB" => nil, "RB_SYS_CARGO_TARGET_DIR" => target }
    Bundler.with_unbundled_env { Open3.capture2e(environment, *command, chdir: @directory) }
  end

  it "compiles and loads where only its own files are", limit: 3600 do
    skip "Debian's crates are not those of Cargo.lock" if File.exist?(File.join(__dir__, "../../../tmp/debian/in_use"))
    configure_cargo
    output, status = run("gem", "install", "--local", "--ignore-dependencies", "--no-document", ENV.fetch("SOURCE_GEM"))
    expect(status).to be_success, output
    output, status = run(RbConfig.ruby, "-e", <<~RUBY)
      gem "tasker_core"
      require "tasker_core"
      puts TaskerCore::Bridge.version, $LOADED_FEATURES.grep(/tasker_core\\.(so|bundle)/)
    RUBY
    expect(status).to be_success, output
    expect(output.lines.first.chomp).to eq TaskerCore::VERSION
    expect(output.lines.last).to start_with("#{@directory}/gems/")
  end
end
