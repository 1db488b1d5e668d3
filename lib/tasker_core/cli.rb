# frozen_string_literal: true

require "etc"
require "io/console"
require "optparse"

module TaskerCore
  # The command line. Exit status: 0 for success; 1 if the state forbids the action, or the inspected object has failed;
  # 2 for invalid input, or an unknown object.
  class CLI
    REJECTED = 1
    BAD_INPUT = 2

    # Invalid arguments. The message is one sentence.
    class UsageError < StandardError; end

    COMMANDS_BEFORE = {
      "work" => ["run steps until TERM or INT", -> { Work }],
      "run" => ["run one workflow file on one input", -> { Run }],
      "list" => ["find tasks", -> { List }],
      "show" => ["print a task and its steps, or one step and its attempts", -> { Show }],
      "why" => ["explain what a task waits for or why it ended, and suggest a remedy", -> { Why }]
    }.freeze
    COMMANDS_AFTER = {
      "graph" => ["draw the graph of a workflow or a task", -> { Graph }],
      "workflows" => ["list declared and stored workflows", -> { Workflows }],
      "doctor" => ["check the installation and name a remedy for each problem", -> { Doctor }],
      "audit" => ["find tasks that break an invariant; --repair repairs them", -> { Audit }],
      "config" => ["print the current settings, or check them", -> { Config }],
      "prune" => ["remove tasks that ended long ago", -> { Prune }],
      "subscriptions" => ["list durable subscriptions, skip an event, or drop a subscription", -> { Subscriptions }],
      "version" => ["print the version", -> { Version }],
      "help" => ["print the commands, or the options of one", -> { Help }]
    }.freeze
    ALIASES = { nil => "help", "--help" => "help", "-h" => "help", "--version" => "version" }.freeze
    private_constant :COMMANDS_BEFORE, :COMMANDS_AFTER, :ALIASES

    # @return [Hash{String => Array(String, Proc)}] summary and class of each command, in the order of `tasker help`;
    #   one for each name in {Operations::Action}
    def self.commands
      actions = Operations::Action.by_name.to_h do |name, same_name|
        command = ActionCommand.of(same_name)
        [name.to_s, [command.summary, -> { command }]]
      end
      { **COMMANDS_BEFORE, **actions, **COMMANDS_AFTER }
    end

    # @param name [String, nil] as typed
    # @return [Class<Command>]
    # @raise [UsageError] if no command has that name
    def self.command(name)
      _, command = commands.fetch(ALIASES.fetch(name, name)) do
        nearest = Support::Spelling.nearest(name, commands.keys)
        remedy = nearest ? "did you mean `tasker #{nearest}`?" : "`tasker help` lists them"
        raise UsageError, "#{name}: unknown command: #{remedy}"
      end
      command.call
    end

    # @param out [IO, StringIO] for results
    # @param err [IO, StringIO] for errors
    def initialize(out: $stdout, err: $stderr)
      @out = out
      @err = err
    end

    # @param arguments [Array<String>]
    # @return [Integer] exit status
    def run(arguments)
      Support::Utf8.assume
      name, *rest = arguments.each.with_index(1).map { |argument, number| utf8(argument, number) }
      self.class.command(name).new(out: @out, err: @err).run(rest)
    rescue TransitionError, WaitTimeoutError, UnreadableError => e
      fail_with(REJECTED, e.message)
    rescue DatabaseError => e
      fail_with(BAD_INPUT, e.message.lines.first.strip) # the adapter adds a paragraph
    rescue UsageError, OptionParser::ParseError, Error, Development::PrivatePostgres::Unavailable => e
      fail_with(BAD_INPUT, e.message)
    rescue ActiveRecord::ConnectionNotEstablished, ActiveRecord::NoDatabaseError, ActiveRecord::ConnectionFailed => e
      fail_with(BAD_INPUT, "the database cannot be used: #{e.message.lines.first.strip}")
    rescue ActiveRecord::StatementInvalid => e
      unreadable = Postgres::Functions.unreadable(e, "something that the command needs") or raise
      fail_with(REJECTED, unreadable.message)
    rescue URI::InvalidURIError # the message contains the address with its password
      fail_with(BAD_INPUT, "the database URL is invalid: percent-encode special characters in DATABASE_URL, or " \
                           "in a `url` of config/database.yml")
    rescue Errno::EPIPE # the reader has closed the pipe: `tasker list | head`
      0
    end

    private

    def utf8(argument, number)
      text = Support::Utf8.text(argument)
      return text if text.valid_encoding?

      raise UsageError, "argument #{number} (#{text.scrub}) is not UTF-8: encode it as UTF-8"
    end

    def fail_with(status, message)
      Support::SafeOutput.line("tasker: #{message}", @err)
      status
    end
  end
end
