# frozen_string_literal: true

require "bundler/setup"
$LOAD_PATH.unshift File.expand_path("../../lib", __dir__)

require "open3"
require "optparse"
require "tasker_core"

# What all benches need: options, a server, databases, programs that answer with JSON, queries.
module Measuring
  ROOT = File.expand_path("../..", __dir__)
  D = TaskerCore::Development::Database

  # Parses the options over their defaults, yields them and the URL of a server, and writes the figures that the block
  # answers where --json says.
  def self.run(options = {})
    OptionParser.new do |parser|
      parser.on("--json FILE", "write the figures there too") { |file| options[:json] = file }
      options.each do |name, default|
        flag = "--#{name.to_s.tr('_', '-')} VALUE"
        parser.on(flag, default.class, "default: #{Array(default).join(',')}") { |value| options[name] = value }
      end
    end.parse!
    results = D.with_server { |url| yield url, options }
    File.write(options[:json], JSON.pretty_generate(results)) if options[:json]
  end

  private

  # A database as long as the block runs, so that no measurement finds another's rows.
  def in_database
    D.temporary(@url, "tasker_bench") do |database|
      D.prepare(@database = database)
      ActiveRecord::Base.remove_connection
      yield
    end
  end

  def engine(*arguments) = json("#{ROOT}/target/release/examples/engine_bench", @database, *arguments)

  def ruby(*arguments)
    json({ "DATABASE_URL" => @database }, RbConfig.ruby, "-I#{ROOT}/lib", "#{ROOT}/bench/ruby_worker.rb", *arguments)
  end

  def json(*command)
    output, status = Open3.capture2(*command.map { |word| word.is_a?(Hash) ? word : word.to_s })
    raise "#{command.join(' ')} failed" unless status.success?

    JSON.parse(output)
  end

  def query(sql) = connected { |connection| connection.exec(sql).values }

  def connected
    connection = PG.connect(@database)
    yield connection
  ensure
    connection&.close
  end
end
