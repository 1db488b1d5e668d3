# frozen_string_literal: true

require "open3"

# `tasker` in a process of its own, as a user calls it.
RSpec.describe "The command line" do
  around { |example| Dir.mktmpdir { |directory| Dir.chdir(directory) { example.run } } }

  def tasker(*arguments, input: "", env: {})
    env = { "DATABASE_URL" => ENV.fetch("DATABASE_URL"), "BUNDLE_GEMFILE" => "#{root}/Gemfile" }.merge(env)
    out, err, status = Open3.capture3(env, RbConfig.ruby, "-I#{root}/lib", "#{root}/exe/tasker", *arguments,
                                      stdin_data: input)
    [out, err, status.exitstatus]
  end

  def file(name, text) = File.write(name, text).then { name }

  let(:handlers) do
    file("handlers.rb", <<~RUBY)
      class Double < TaskerCore::StepHandler
        def call(context) = { n: (context.results.to_h.values.first || context.input)["n"] * 2 }
      end

      class Declined < TaskerCore::StepHandler
        def call(_context) = raise(TaskerCore::PermanentError.new("card declined", code: "declined"))
      end
    RUBY
  end

  def workflow(steps, rest = "")
    file("workflow.yaml", "name: trial\n#{rest}steps:\n#{steps.gsub(/^/, '  ')}")
  end

  let(:good) { workflow(<<~YAML, "input: { type: object, required: [n], properties: { n: { type: integer } } }\n") }
    - { name: first, handler: Double }
    - { name: second, handler: Double, depends_on: [first] }
  YAML

  describe "config" do
    before { Dir.mkdir("config") }

    it "prints effective settings with purpose and origin" do
      file("config/tasker-core.yaml", "execution: { threads: 8 }\nenvironments: { staging: { retry: { base: 3s } } }\n")
      env = { "RAILS_ENV" => "staging", "TASKER_CORE__SYSTEMS__BANK__BASE_URL" => "https://ada:secret@bank.example" }
      out, err, status = tasker("config", env: env)
      expect([err, status]).to eq ["", 0]
      description = "1 to 1000; number of handlers that one process runs concurrently"
      expect(out).to match(%r{^  threads: 8 +# #{description} \[.*/config/tasker-core.yaml\]$})
      expect(out).to match(/^  base: 3s .*tasker-core.yaml, environments.staging\]$/)
      expect(out).to include('base_url: "https://***@bank.example"', "[TASKER_CORE__SYSTEMS__BANK__BASE_URL]")
      expect(out).not_to include "secret"
      expect(YAML.safe_load(out))
        .to include("execution" => include("threads" => 8, "processes" => 1), "retry" => include("base" => "3s"))
      changed, = tasker("config", "--changed", "--json", env: env)
      expect(JSON.parse(changed)["settings"].map { _1["path"] })
        .to contain_exactly("execution.threads", "retry.base", "systems.bank.base_url")
    end

    it "checks file and environment, and reports all problems" do
      expect(tasker("config", "check")).to eq ["tasker: the settings are valid\n", "", 0]
      file("config/tasker-core.yaml", "execution: { thread: 8 }\n")
      out, err, status = tasker("config", "check", env: { "TASKER_CORE__RETRY__JITTER" => "9" })
      expect([out, err.lines.size, status]).to eq ["", 1, 2]
      expect(err).to include("config/tasker-core.yaml: execution.thread: 8 (integer) is an unknown setting: " \
                             "did you mean `threads`?",
                             "the environment: retry.jitter: 9 (integer) must be a number from 0 to 1")
      expect(tasker("config", "chek").last(2)).to match [/chek: must be `check` or omitted/, 2]
    end

    it "reads the settings of a Rails application if there is one" do
      out, err, status = tasker("config", "--changed", "--require", "#{root}/spec/dummy/config/environment.rb",
                                env: { "RAILS_ENV" => "test" })
      expect([err, status]).to eq ["", 0]
      expect(out).to match(/heartbeat_interval: 100ms .*\[the application's code\]/)
    end
  end

  it "runs a workflow file on an input and prints each step" do
    out, err, status = tasker("run", good, "--require", handlers, "--input", file("input.json", '{"n": 5}'))
    expect([err, status]).to eq ["", 0]
    expect(out).to match(/✔ first \(complete\).*  ✔ second ← first \(complete\).*task \d+: complete/m)
  end

  it "prints the report of a run as one JSON object" do
    out, _, status = tasker("run", good, "--require", handlers, "--input", "-", "--json", input: '{"n": 5}')
    report = JSON.parse(out)
    expect(status).to eq 0
    expect(report.keys).to eq %w[state execution_status steps elapsed_ms running_ms results]
    expect(report).to include("state" => "complete", "execution_status" => "all_complete",
                              "results" => { "first" => { "n" => 10 }, "second" => { "n" => 20 } })
    expect(report["steps"].first.keys).to eq %w[name state attempts error started_at finished_at running_ms]
    expect(report["elapsed_ms"]).to be >= report["running_ms"]
  end

  it "exits with 1 when the task ends in an error" do
    declined = workflow("- { name: only, handler: Declined }\n")
    out, _, status = tasker("run", declined, "--require", handlers, "--json")
    expect(status).to eq 1
    error = { "code" => "declined", "message" => "card declined" }
    expect(JSON.parse(out)).to include("state" => "error", "execution_status" => "blocked_by_failures",
                                       "steps" => [include("error" => include(error))])
  end

  describe "bad input" do
    only = "- { name: only, handler: Double }\n"
    {
      "an unknown key" => [only.sub("handler", "handlr"),
                           /steps\[0\].handlr: "Double" \(string\) is an unknown key: did you mean `handler`\?/],
      "a cycle" => ["- { name: a, handler: Double, depends_on: [b] }\n- { name: b, handler: " \
                    "Double, depends_on: [a] }\n",
                    /the dependencies form a cycle: b → a → b|a → b → a/],
      "a missing handler" => [only.sub("Double", "Nowhere"),
                              /step only: handler "Nowhere" is not defined: require the file that/],
      "no attempt" => ["- { name: only, handler: Double, retry: { max_attempts: 0 } }\n",
                       /max_attempts: 0 \(integer\) must be/],
      "broken YAML" => ["- [", /workflow.yaml is not valid YAML/]
    }.each do |name, (steps, message)|
      it "exits with 2 and one sentence on #{name} in a workflow file" do
        out, err, status = tasker("run", workflow(steps), "--require", handlers)
        expect([out, status]).to eq ["", 2]
        expect(err).to match(/\Atasker: .*#{message}.*\n\z/)
      end
    end

    {
      ["--input", "wrong.json"] => /n: "five" \(string\) is not of type "integer"/,
      ["--input", "half.json"] => /--input: is not JSON/,
      ["--input", "array.json"] => /--input: Array must be a JSON object/,
      ["--input", "nowhere.json"] => /--input nowhere.json: No such file/,
      ["--inptu"] => /invalid option: --inptu/,
      ["--require", "nowhere.rb"] => /--require nowhere.rb: no such file/,
      ["--require", "broken.rb"] =>
        %r{--require broken.rb: NameError: uninitialized constant Missing \(.*/broken.rb:2\)},
      ["unexpected"] => /run: unexpected: unexpected argument/
    }.each do |arguments, message|
      it "exits with 2 and writes nothing on #{arguments.join(' ')}" do
        { "wrong.json" => '{"n": "five"}', "half.json" => '{"n": ', "array.json" => "[1]",
          "broken.rb" => "\nMissing.new" }.each { |name, text| file(name, text) }
        out, err, status = tasker("run", good, "--require", handlers, *arguments)
        expect([out, status]).to eq ["", 2]
        expect(err).to match(/\Atasker: .*#{message}.*/)
        expect(TaskerCore::Task.count).to eq 0
      end
    end

    it "exits with 2 and a remedy if the database is not usable" do
      _, err, status = tasker("run", good, "--require", handlers, "--input", file("input.json", '{"n": 5}'),
                              env: { "DATABASE_URL" => "postgresql:///nowhere?host=/nowhere&user=postgres" })
      expect(status).to eq 2
      expect(err).to match(/\Atasker: the database cannot be used/)
      empty = TaskerCore::Development::Database.sibling(SERVER_URL, "template1")
      _, err, status = tasker("run", good, "--require", handlers, "--input", "input.json",
                              env: { "DATABASE_URL" => empty })
      expect(status).to eq 2
      expect(err)
        .to match(/\Atasker: the tables of tasker_core are missing in the database template1: .*or pass --prepare/)
    end
  end

  it "rejects options without effect" do
    [%w[--format svg], %w[--output graph.svg]].each do |options|
      expect(tasker("graph", good, "--json", *options))
        .to eq ["", "tasker: graph: --json cannot be combined with --format or --output\n", 2]
    end
    expect(tasker("config", "check", "--changed"))
      .to eq ["", "tasker: config check: --changed has no effect: remove it\n", 2]
  end

  it "lists its commands and suggests near ones" do
    expect(tasker("version")).to eq ["#{TaskerCore::VERSION}\n", "", 0]
    expect(tasker("help").first).to include("work", "run one workflow file")
    expect(tasker("wrok")).to eq ["", "tasker: wrok: unknown command: did you mean `tasker work`?\n", 2]
    expect(tasker("work")).to eq ["", "tasker: there is no config/environment.rb here or above: run the command in " \
                                      "a Rails application, " \
                                      "or name a file with --require\n", 2]
  end
end
