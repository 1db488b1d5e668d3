# frozen_string_literal: true

module Chaos
  # The workers: `tasker work` supervisors with their processes, each with a log of its own, and some on machines of a
  # network.
  class Crew
    Member = Struct.new(:name, :url, :machine, :pid, :log, keyword_init: true)
    # How many seconds a supervisor may take to end after TERM: shutdown, deregistration, and its children's last
    # statements.
    LONGEST_END = 60
    ROOT = File.expand_path("../..", __dir__)
    private_constant :ROOT

    # @return [Array<Member>]
    attr_reader :members

    # @param urls [Hash{String => String}] of the database, by the member's name
    # @param machines [Hash{String => Network::Machine}] of some members, by their names
    # @param poll_only [Boolean] the setting `database.poll_only`
    def initialize(urls, directory, processes:, threads:, machines: {}, poll_only: false)
      @variables = { "CHAOS_DIRECTORY" => directory, "TASKER_CORE__DATABASE__POLL_ONLY" => poll_only.to_s }
      @command = [RbConfig.ruby, "-I#{ROOT}/lib", "#{ROOT}/exe/tasker", "work", "--processes", processes.to_s,
                  "--threads", threads.to_s, "--require", "#{__dir__}/application.rb"]
      @members = urls.map do |name, url|
        Member.new(name: name, url: url, machine: machines[name], log: "#{directory}/#{name}.log")
      end
      ensure_all
    end

    # Starts the supervisors that do not run.
    def ensure_all = @members.each { |member| start(member) unless running?(member) }

    def running?(member)
      member.pid && Process.wait(member.pid, Process::WNOHANG).nil?
    rescue Errno::ECHILD
      false
    end

    # @param of [Member, String, nil] the supervisor; nil for all
    # @return [Array<Integer>] process ids of workers
    def workers(of = nil)
      parents = @members.select { |member| of.nil? || of == member || of == member.name }.map(&:pid)
      processes = IO.popen(%w[ps -A -o pid=,ppid=], &:readlines).map { |line| line.split.map(&:to_i) }
      processes.select { |_, parent| parents.include?(parent) }.map(&:first)
    end

    def signal(name, pid)
      Process.kill(name, pid)
    rescue Errno::ESRCH
      nil # it has ended in the meantime
    end

    # Ends all supervisors in order.
    # @return [Array<String>] names of those that did not end
    def stop
      workers.each { |pid| signal("CONT", pid) }
      @members.each { |member| signal("TERM", member.pid) }
      deadline = Effects.now + LONGEST_END
      sleep 0.1 while @members.any? { |member| running?(member) } && Effects.now < deadline
      left = @members.select { |member| running?(member) }
      left.each { |member| (workers + [member.pid]).each { |pid| signal("KILL", pid) } }
      left.map(&:name)
    end

    def log = @members.map { |member| File.read(member.log) }.join

    private

    def start(member)
      File.open(member.log, "a") do |log|
        variables = { "DATABASE_URL" => member.url, **@variables }
        member.pid = spawn(variables, *member.machine&.prefix, *@command, out: log, err: log)
      end
    end
  end
end
