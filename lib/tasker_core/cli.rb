# frozen_string_literal: true

require "etc"
require "io/console"
require "optparse"

module TaskerCore
  # The command line. A command answers its exit status: 0 done; 1 what was asked for is refused by the state, or what was asked
  # about has failed; 2 bad input, or nothing to work on.
  class CLI
    REJECTED = 1
    BAD_INPUT = 2

    # What the user wrote cannot be used; the message is one sentence.
    class UsageError < StandardError; end

    COMMANDS_BEFORE = {
      "work" => ["run steps until TERM or INT", -> { Work }],
      "run" => ["run one workflow file on one input", -> { Run }],
      "list" => ["find tasks", -> { List }],
      "show" => ["print a task and its steps, or one step and its attempts", -> { Show }],
      "why" => ["tell what a task waits for, or why it ended so, and what to do", -> { Why }]
    }.freeze
    COMMANDS_AFTER = {
      "graph" => ["draw the graph of a workflow or a task", -> { Graph }],
      "workflows" => ["list the workflows that are declared here, and those in the database", -> { Workflows }],
      "doctor" => ["check the installation, and tell what to do about what is wrong", -> { Doctor }],
      "audit" => ["find tasks that break an invariant, and repair them when asked", -> { Audit }],
      "config" => ["print the settings in force, or check them", -> { Config }],
      "prune" => ["remove tasks that ended long ago", -> { Prune }],
      "subscriptions" => ["tell how durable subscriptions stand, skip an event, drop one", -> { Subscriptions }],
      "version" => ["print the version", -> { Version }],
      "help" => ["print this, or what a command takes", -> { Help }]
    }.freeze
    ALIASES = { nil => "help", "--help" => "help", "-h" => "help", "--version" => "version" }.freeze
    private_constant :COMMANDS_BEFORE, :COMMANDS_AFTER, :ALIASES

    # @return [Hash{String => Array(String, Proc)}] summary and class of each command, in the order of `tasker help`; one
    #   for each name in {Operations::Action}
    def self.commands
      actions = Operations::Action.by_name.transform_values { |same_name| ActionCommand.of(same_name) }
      { **COMMANDS_BEFORE, **actions.to_h { |name, command| [name.to_s, [command.summary, -> { command }]] }, **COMMANDS_AFTER }
    end

    # @param name [String, nil] as the user types it
    # @return [Class<Command>]
    # @raise [UsageError] when there is none of that name
    def self.command(name)
      _, command = commands.fetch(ALIASES.fetch(name, name)) do
        nearest = Support::Spelling.nearest(name, commands.keys)
        remedy = nearest ? "did you mean `tasker #{nearest}`?" : "`tasker help` lists them"
        raise UsageError, "#{name}: there is no such command: #{remedy}"
      end
      command.call
    end

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
      fail_with(BAD_INPUT, e.message.lines.first.strip) # what the adapter says goes on for a paragraph
    rescue UsageError, OptionParser::ParseError, Error, Development::PrivatePostgres::Unavailable => e
      fail_with(BAD_INPUT, e.message)
    rescue ActiveRecord::ConnectionNotEstablished, ActiveRecord::NoDatabaseError, ActiveRecord::ConnectionFailed => e
      fail_with(BAD_INPUT, "the database cannot be used: #{e.message.lines.first.strip}")
    rescue ActiveRecord::StatementInvalid => e
      raise unless Postgres::Functions.unreadable?(e)

      fail_with(REJECTED, UnreadableError.of("something that the command needs", Postgres::Functions.message_of(e)).message)
    rescue URI::InvalidURIError # its message is the whole address, with the password
      fail_with(BAD_INPUT, "a database's address cannot be read as a URL: in DATABASE_URL, or a `url` of config/database.yml, " \
                           "write characters that have a meaning there percent-encoded")
    rescue Errno::EPIPE # whoever reads has enough: `tasker list | head`
      0
    end

    private

    def utf8(argument, number)
      text = Support::Utf8.text(argument)
      return text if text.valid_encoding?

      raise UsageError, "argument #{number} (#{text.scrub}) is no UTF-8: write it in UTF-8"
    end

    def fail_with(status, message)
      Support::SafeOutput.line("tasker: #{message}", @err)
      status
    end
  end
end
