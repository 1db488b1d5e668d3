# frozen_string_literal: true

require "fileutils"
require "open3"
require "yaml"
require_relative "checkout_copy"

# Small breaking changes, each with the test that must fail when the change is made. `bin/mutate` makes them one at a
# time, on a copy of the checkout; `spec/unit/tooling/mutations_spec.rb` checks in the test suite that each can still be
# made.
module Mutations
  FILE = "spec/mutations.yaml"
  # For each setting, the test that must fail when the setting is held at its default.
  SETTINGS = "spec/settings.yaml"
  # The change that holds the setting in TASKER_HELD_SETTING at its default, even if an application sets it.
  HOLD = {
    file: "ext/orchestrator/src/configuration.rs",
    from: "values.extend(layer.values);",
    to: <<~RUST
      values.extend(layer.values.into_iter().filter(|(path, _)| {
          let held = std::env::var("TASKER_HELD_SETTING").unwrap_or_default();
          schema().setting(path).is_none_or(|setting| setting.path != held)
      }));
    RUST
  }.freeze

  # An invalid list. The message has every problem.
  class ListError < StandardError; end

  # The files of a Rust test: `lib` for unit tests of the orchestrator, otherwise the name of a test crate.
  CRATES = {
    "lib" => "ext/orchestrator/src/**/*.rs",
    "orchestration" => "ext/orchestrator/tests/orchestration/*.rs",
    "sql_functions" => "ext/orchestrator/tests/sql_functions/*.rs",
    "connections_test" => "ext/orchestrator/tests/connections_test.rs",
    "random_workflows_test" => "ext/orchestrator/tests/random_workflows_test.rs"
  }.freeze

  # A change of one place in one file, and the test that must fail with it.
  Mutation = Struct.new(:name, :file, :from, :to, :rspec, :cargo, :environment, keyword_init: true) do
    # @param root [String] of a checkout
    # @return [String, nil] why it cannot be made in this checkout
    def problem(root)
      path = File.join(root, file)
      return "#{name}: no file #{file}" unless File.file?(path)

      found = File.read(path, encoding: "UTF-8").scan(from).size
      return "#{name}: #{from.inspect} occurs #{found} times in #{file}, must occur once" unless found == 1
      return "#{name}: `from` and `to` are the same" if from == to

      problem_of_test(root)
    end

    def make(root)
      text = File.read(File.join(root, file), encoding: "UTF-8")
      File.write(File.join(root, file), text.sub(from) { to })
    end

    # @return [Array<String>] mutations with the same change are made together
    def change = [file, from, to]

    # @return [Array<String>] the file or crate of its test, and the title
    def test = rspec || cargo

    # @return [Boolean] whether it needs a build of Rust
    def rust? = file.end_with?(".rs")

    private

    def problem_of_test(root)
      return "#{name}: needs either `rspec` or `cargo`" unless [rspec, cargo].compact.size == 1

      place, title = test
      pattern = rspec ? place : CRATES.fetch(place) { return "#{name}: no crate #{place}" }
      files = Dir[File.join(root, pattern)]
      text = rspec ? title : "fn #{title.split('::').last}("
      return if files.any? { |path| File.file?(path) && File.read(path, encoding: "UTF-8").include?(text) }

      "#{name}: no test #{title.inspect} in #{place}"
    end
  end

  # @param root [String] of a checkout
  # @return [Array<Mutation>] those in the list
  # @raise [ListError] with every problem
  def self.load(root, file: FILE)
    entries = YAML.safe_load_file(File.join(root, file))
    verified(root, entries.map { |entry| Mutation.new(**entry.transform_keys(&:to_sym)) })
  end

  # @param root [String] of a checkout
  # @return [Array<Mutation>] one for each setting, which holds it at its default
  # @raise [ListError] with every problem
  def self.settings(root, file: SETTINGS)
    verified(root, YAML.safe_load_file(File.join(root, file)).map do |path, test|
      Mutation.new(name: path, **HOLD, environment: { "TASKER_HELD_SETTING" => path }, **test.transform_keys(&:to_sym))
    end)
  end

  def self.verified(root, mutations)
    names = mutations.map(&:name)
    problems = names.select { |name| names.count(name) > 1 }.uniq.map { |name| "#{name}: duplicate name" }
    problems.concat(mutations.filter_map { |mutation| mutation.problem(root) })
    raise ListError, problems.join("\n") if problems.any?

    mutations
  end
  private_class_method :verified

  # A copy of the checkout and its build, in which mutations are made and undone.
  class Scratch
    # In `tmp`, which git ignores. It is kept, so that the next run builds only what has changed.
    DIRECTORY = "tmp/mutate"
    LOGS = "log"

    attr_reader :root

    # @param checkout [String]
    def initialize(checkout)
      @checkout = checkout
      @root = File.join(checkout, DIRECTORY)
    end

    def refresh
      CheckoutCopy.new(@checkout, @root).refresh(built)
      FileUtils.cp_r(File.join(@checkout, ".cargo"), @root) if File.directory?(File.join(@checkout, ".cargo"))
      target = File.join(@root, "target")
      FileUtils.cp_r(File.join(@checkout, "target"), target, preserve: true) if clone_target?(target)
    end

    # Makes a mutation for the duration of the block.
    def with(mutation)
      paths = [mutation.file, *built].map { |path| File.join(@root, path) }
      before = paths.map { |path| File.binread(path) }
      mutation.make(@root)
      yield
    ensure
      # From memory, because the checkout may have changed in the meantime.
      paths.zip(before) { |path, content| replace(path, content) unless File.binread(path) == content }
    end

    # Stores the output of a test.
    def log(name, output)
      FileUtils.mkdir_p(File.join(@root, LOGS))
      File.write(File.join(@root, LOGS, "#{name}.log"), output)
    end

    private

    # Replaces the file instead of writing into it, because a process may have mapped the extension.
    def replace(path, content)
      mode = File.stat(path).mode
      File.binwrite("#{path}.new", content)
      File.chmod(mode, "#{path}.new")
      File.rename("#{path}.new", path)
    end

    def built = Dir.glob("lib/tasker_core/tasker_core.{so,bundle}", base: @checkout)

    def clone_target?(target) = !File.exist?(target) && File.directory?(File.join(@checkout, "target"))
  end

  # A server with the database that Rust's tests copy. It stops with this process.
  class Server
    def initialize(root)
      @root = root
    end

    # Starts the server at the first call.
    # @return [String] URL of the database
    def template_url
      @template_url ||= start
    end

    private

    def start
      own = { "BUNDLE_GEMFILE" => File.join(@root, "Gemfile"), "RUBYOPT" => nil }
      @pipe = IO.popen(own, %w[bundle exec rake spec:serve], "r+", chdir: @root)
      @pipe.gets&.chomp or raise "rake spec:serve failed in #{@root}"
    end
  end

  # Runs tests in a checkout.
  class Tests
    # In seconds; longer than any test takes, so that a mutation that makes its test hang is caught, too.
    LIMIT = 600

    # The outcome of a run: `passed`, `failed`, or `broken` if the test did not run to its end.
    Result = Struct.new(:verdict, :output)

    def initialize(root, server: Server.new(root))
      @root = root
      @server = server
    end

    # Builds the extension if the mutations change Rust and one of their tests is in Ruby.
    # @return [Result, nil] the failure of the build
    def build(mutations)
      return unless mutations.any? { |mutation| mutation.rspec && mutation.rust? }

      output, success = execute({}, "bundle", "exec", "rake", "compile:dev")
      Result.new(:broken, output) unless success
    end

    # @param mutations [Array<Mutation>]
    # @return [Array<Array(Mutation, Result)>] the mutations whose test does not pass on unmutated code
    def failing(mutations)
      together = mutations.uniq(&:test).group_by { |mutation| mutation.cargo ? mutation.cargo.first : :rspec }.values
      suspects = together.reject { |group| pass?(group) }.flatten
      results = suspects.map { |mutation| [mutation, run(mutation, environment: {})] }
      results.reject { |_, result| result.verdict == :passed }
    end

    # Runs the test of a mutation. For a Ruby test, the extension must be built.
    # @param mutation [Mutation]
    # @return [Result]
    def run(mutation, environment: mutation.environment.to_h)
      return rspec(mutation, environment) if mutation.rspec

      output, success = execute({}, *cargo_build(mutation))
      success ? cargo(mutation, environment) : Result.new(:broken, output)
    end

    private

    # Whether all their tests pass in one run, which is quicker than one run for each.
    def pass?(group)
      first = group.first
      titles = group.map { |mutation| mutation.test.last }
      if first.cargo
        output, success = cargo_test(first.cargo.first, titles, {})
        ran = output.scan(/test result: \w+\. (\d+) passed/).flatten.sum(&:to_i)
      else
        examples = titles.flat_map { |title| ["--example", title] }
        files = group.map { |mutation| mutation.rspec.first }.uniq
        output, success = execute({}, "bundle", "exec", "rspec", *files, *examples)
        ran = output[/(\d+) examples?, 0 failures/, 1].to_i
      end
      success && ran >= group.size
    end

    def cargo_build(mutation) = cargo_command(mutation.cargo.first, "--no-run")

    def cargo_command(crate, *arguments)
      target = crate == "lib" ? ["--lib"] : ["--test", crate]
      ["cargo", "test", "--locked", "--package", "tasker_orchestrator", *target, *arguments]
    end

    def cargo_test(crate, titles, environment)
      execute({ "TASKER_TEMPLATE_URL" => @server.template_url, **environment }, *cargo_command(crate, "--", *titles))
    end

    def rspec(mutation, environment)
      path, title = mutation.rspec
      output, success = execute(environment, "bundle", "exec", "rspec", path, "--example", title)
      examples, failures = output.scan(/(\d+) examples?, (\d+) failures?/).last.to_a.map(&:to_i)
      judge(output, failed: failures.to_i.positive?, passed: success && examples.to_i.positive?)
    end

    # The server has the SQL functions of the unmutated checkout, so a mutation of SQL needs a server of its own.
    def cargo(mutation, environment)
      crate, title = mutation.cargo
      output, success = if mutation.rust?
                          cargo_test(crate, [title], environment)
                        else
                          execute(environment, "bundle", "exec", "rake", "spec:one[#{crate},#{title}]")
                        end
      verdict = output[/^test (?:\S+::)?#{Regexp.escape(title.split('::').last)} \.\.\. (ok|FAILED)$/, 1]
      judge(output, failed: verdict == "FAILED", passed: success && verdict == "ok")
    end

    # A failed test has caught the mutation. Another end, such as a syntax error, proves nothing.
    def judge(output, failed:, passed:)
      return Result.new(:failed, output) if failed || output.end_with?(OVERDUE)

      Result.new(passed ? :passed : :broken, output)
    end

    OVERDUE = "the time limit has passed\n"
    private_constant :OVERDUE

    # @return [Array(String, Boolean)] the command's output, and whether it succeeded
    def execute(environment, *command)
      own = { "BUNDLE_GEMFILE" => File.join(@root, "Gemfile"), "RUBYOPT" => nil, "SPEC_OPTS" => nil }
      reader, writer = IO.pipe
      pid = spawn({ **own, **environment }, *command, chdir: @root, in: File::NULL, %i[out err] => writer, pgroup: true)
      writer.close
      output = Thread.new { reader.read.force_encoding(Encoding::UTF_8).scrub }
      killer = Thread.new { sleep LIMIT and Process.kill("KILL", -pid) }
      _, status = Process.wait2(pid)
      overdue = !killer.alive?
      killer.kill
      ["#{output.value}#{OVERDUE if overdue}", status.success?]
    end
  end

  # Makes each mutation and reports those that no test detects.
  class Run
    # @param mutations [Array<Mutation>]
    # @param scratch [Scratch]
    # @param tests [Tests] of the copy
    # @param out [IO]
    def initialize(mutations, scratch:, tests:, out: $stdout)
      @mutations = mutations
      @scratch = scratch
      @tests = tests
      @out = out
    end

    # @return [Integer] exit status: 0 if every mutation was caught, 1 if some survived, 2 if a test did not run
    def call
      unusable = @tests.failing(@mutations.reject(&:environment))
      return refuse(unusable) if unusable.any?

      made = @mutations.group_by(&:change).values.flat_map { |group| made(group) }
      verdicts = made.group_by(&:last).transform_values { |pairs| pairs.map(&:first) }
      report("survived", verdicts[:passed], "no test failed")
      report("broken", verdicts[:broken], "the build failed, or the test did not run")
      @out.puts "#{@mutations.size} mutations, #{verdicts[:failed].to_a.size} caught"
      return 1 if verdicts[:passed]

      verdicts[:broken] ? 2 : 0
    end

    private

    # Makes one change, and runs the tests of all mutations with this change.
    def made(group)
      @scratch.with(group.first) do
        unusable = unusable(group)
        group.map { |mutation| [mutation, conclude(mutation, unusable[mutation.test] || @tests.run(mutation))] }
      end
    end

    # The tests that would prove nothing, with the reason: the build fails, or the test fails without the environment.
    def unusable(group)
      broken = @tests.build(group)
      return group.to_h { |mutation| [mutation.test, broken] } if broken
      return {} unless group.first.environment

      @tests.failing(group).to_h { |mutation, result| [mutation.test, Tests::Result.new(:broken, result.output)] }
    end

    def conclude(mutation, result)
      @scratch.log(mutation.name, result.output)
      verdict = { passed: "SURVIVED", failed: "caught  ", broken: "BROKEN  " }.fetch(result.verdict)
      @out.puts "#{verdict} #{mutation.name}"
      @out.puts result.output.lines.last(30) if result.verdict == :broken
      @out.flush
      result.verdict
    end

    def report(word, mutations, why)
      mutations.to_a.each { |mutation| @out.puts "#{word}: #{mutation.name} (#{mutation.file}): #{why}" }
    end

    def refuse(unusable)
      unusable.each do |mutation, result|
        @out.puts "the test of #{mutation.name} #{result.verdict} without any mutation:", result.output.lines.last(30)
      end
      2
    end
  end
end
