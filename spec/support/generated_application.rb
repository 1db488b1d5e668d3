# frozen_string_literal: true

require "fileutils"
require "open3"
require "tmpdir"

# A Rails application made by `rails new` in a temporary directory, with this checkout's gems and its own databases.
class GeneratedApplication
  ROOT = File.expand_path("../..", __dir__)
  # Variables of this suite that the application must not inherit.
  ENVIRONMENT = { "BUNDLE_GEMFILE" => "#{ROOT}/Gemfile", "RAILS_ENV" => nil, "DATABASE_URL" => nil,
                  "SPEC_OPTS" => nil }.freeze
  NEW = %w[bundle exec rails new --database=postgresql --minimal
           --skip-asset-pipeline --skip-bundle --skip-git --quiet].freeze

  # @param databases [Hash{String => Hash}] in addition to the primary one, as in database.yml
  def initialize(name, *options, databases: {})
    @name = name
    @directory = Dir.mktmpdir("tasker-application")
    run(*NEW, *options, path, directory: @directory)
    write("config/database.yml", database_configuration(databases).to_yaml)
  end

  def path(file = nil) = File.join(*[@directory, @name, file].compact)

  def read(file) = File.read(path(file))

  def write(file, text)
    FileUtils.mkdir_p(File.dirname(path(file)))
    File.write(path(file), text)
  end

  # @return [Hash{String => String}] contents of every file that a generator may write
  def files
    Dir.glob("{app,bin,config,db,spec,test}/**/*", base: path).select { |file| File.file?(path(file)) }.to_h do |file|
      [file, read(file)]
    end
  end

  # @return [String] the output
  # @raise [RuntimeError] with the output when the command fails
  def run(*command, directory: path, **variables)
    output, status = attempt(*command, directory: directory, **variables)
    status.success? ? output : raise("#{command.join(' ')} failed:\n#{output}")
  end

  # @return [Array(String, Process::Status)]
  def attempt(*command, directory: path, **variables)
    Open3.capture2e({ **ENVIRONMENT, **variables.transform_keys(&:to_s) }, *command, chdir: directory)
  end

  # Runs several generators in one process.
  # @param commands [Array<String>] the arguments of `bin/rails g`
  def generate(*commands)
    script = <<~RUBY
      Rails.application.load_generators
      #{commands.inspect}.each do |command|
        name, *arguments = command.split
        Rails::Generators.invoke(name, arguments)
      end
    RUBY
    run("bin/rails", "runner", script)
  end

  # Runs a command in the background while the block runs.
  def beside(*command, directory: path, **variables)
    log = File.open(path("log/beside.log"), "w")
    pid = spawn({ **ENVIRONMENT, **variables.transform_keys(&:to_s) }, *command, chdir: directory, out: log, err: log)
    yield
  ensure
    if pid
      Process.kill("TERM", pid)
      Process.wait(pid)
    end
    log&.close
  end

  # Runs a booted process that serves requests while the block runs.
  # @yieldparam get [#call] takes a path, returns status and body
  def serving
    write("tmp/server.rb", <<~RUBY)
      require "./config/environment"
      $stdout.sync = true
      while (path = $stdin.gets)
        status, _, body = Rails.application.call(Rack::MockRequest.env_for(path.strip, "HTTP_HOST" => "localhost"))
        text = +""
        body.each { |part| text << part }
        body.close if body.respond_to?(:close)
        puts [status, text].to_json
      end
    RUBY
    server = IO.popen([ENVIRONMENT, "bundle", "exec", "ruby", "tmp/server.rb",
                       { chdir: path, err: path("log/server.log") }], "r+")
    yield(lambda do |wanted|
      server.puts(wanted)
      JSON.parse(server.gets || raise("the server has ended: #{read('log/server.log')}"))
    end)
  ensure
    server&.close
  end

  def remove
    @made.to_a.each do |name|
      TaskerCore::Development::Database.administer(SERVER_URL) do |pg|
        pg.exec("drop database if exists #{name} with (force)")
      end
    end
    FileUtils.rm_rf(@directory)
  end

  private

  def database_configuration(others)
    %w[development test].to_h do |environment|
      databases = { "primary" => {}, **others }.to_h do |name, settings|
        [name, { **server, **settings, "database" => make("tasker_generated_#{@name}_#{name}_#{environment}") }]
      end
      [environment, databases]
    end
  end

  def make(database)
    TaskerCore::Development::Database.create(SERVER_URL, database)
    (@made ||= []) << database
    database
  end

  def server
    given = PG::Connection.conninfo_parse(SERVER_URL).to_h { |option| option.values_at(:keyword, :val) }.compact
    { "adapter" => "postgresql", "host" => given["host"], "port" => given["port"], "username" => given["user"],
      "password" => given["password"] }.compact
  end
end
