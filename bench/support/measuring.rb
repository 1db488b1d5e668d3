# frozen_string_literal: true

require "bundler/setup"
$LOAD_PATH.unshift File.expand_path("../../lib", __dir__)

require "open3"
require "optparse"
require "tasker_core"

# Common parts of the benchmarks: options, a server, databases, programs that print JSON, queries.
module Measuring
  ROOT = File.expand_path("../..", __dir__)
  D = TaskerCore::Development::Database

  # Parses the options over their defaults, yields them and the URL of a server, and writes the results that the block
  # returns to the file in --json.
  def self.run(options = {})
    OptionParser.new do |parser|
      parser.on("--json FILE", "also write the results there") { |file| options[:json] = file }
      options.each do |name, default|
        flag = "--#{name.to_s.tr('_', '-')} VALUE"
        parser.on(flag, default.class, "default: #{Array(default).join(',')}") { |value| options[name] = value }
      end
    end.parse!
    results = D.with_server { |url| yield url, options }
    File.write(options[:json], JSON.pretty_generate(results)) if options[:json]
  end

  private

  # Creates a database for the duration of the block, so that no measurement finds rows of another.
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
