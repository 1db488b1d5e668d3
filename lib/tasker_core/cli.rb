# frozen_string_literal: true

require "etc"
require "optparse"

module TaskerCore
  # The command line. A command answers its exit status: 0 done, 1 ended in an error, 2 bad input.
  class CLI
    BAD_INPUT = 2

    # What the user wrote cannot be used; the message is one sentence.
    class UsageError < StandardError; end

    COMMANDS = {
      "work" => ["run steps until TERM or INT", -> { Work }],
      "run" => ["run one workflow file on one input", -> { Run }],
      "audit" => ["find tasks that break an invariant, and repair them when asked", -> { Audit }],
      "config" => ["print the settings in force, or check them", -> { Config }],
      "prune" => ["remove tasks that ended long ago", -> { Prune }],
      "subscriptions" => ["tell how durable subscriptions stand, skip an event, drop one", -> { Subscriptions }],
      "version" => ["print the version", -> { Version }],
      "help" => ["print this", -> { Help }]
    }.freeze

    # Prints the version.
    class Version
      def initialize(out:, **) = @out = out

      def run(_arguments)
        @out.puts VERSION
        0
      end
    end

    # Prints the commands.
    class Help
      def initialize(out:, **) = @out = out

      def run(_arguments)
        @out.puts "Usage: tasker COMMAND [options]   (tasker COMMAND --help tells the options)", ""
        COMMANDS.each { |name, (summary, _)| @out.puts format("  %-13s %s", name, summary) }
        0
      end
    end

    def initialize(out: $stdout, err: $stderr)
      @out = out
      @err = err
    end

    # @param arguments [Array<String>]
    # @return [Integer] exit status
    def run(arguments)
      name, *rest = arguments
      name = { nil => "help", "--help" => "help", "-h" => "help", "--version" => "version" }.fetch(name, name)
      _, command = COMMANDS.fetch(name) { raise UsageError, "#{name}: there is no such command#{suggestion(name)}" }
      command.call.new(out: @out, err: @err).run(rest)
    rescue WaitTimeoutError => e
      @err.puts "tasker: #{e.message}"
      1
    rescue UsageError, OptionParser::ParseError, Error, Development::PrivatePostgres::Unavailable => e
      @err.puts "tasker: #{e.message}"
      BAD_INPUT
    end

    private

    def suggestion(name)
      nearest = DidYouMean::SpellChecker.new(dictionary: COMMANDS.keys).correct(name).first
      nearest ? ": did you mean `tasker #{nearest}`?" : ": `tasker help` lists them"
    end
  end
end
