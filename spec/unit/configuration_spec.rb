# frozen_string_literal: true

require "net/http"
require "tmpdir"

RSpec.describe TaskerCore::Configuration do
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }

  def file(text)
    File.join(@directory, "config/tasker-core.yaml").tap do |path|
      FileUtils.mkdir_p(File.dirname(path))
      File.write(path, text)
    end
  end

  def configuration(environment: "production", overrides: {}, **variables)
    file = Dir["#{@directory}/config/tasker-core.yaml"].first
    described_class.new(overrides, file: file, environment: environment, variables: variables.transform_keys(&:to_s))
  end

  it "merges defaults, file, environment, variables and overrides" do
    file(<<~YAML)
      execution: { threads: 2, processes: 2, flush_size: 2, statements: 3 }
      environments:
        production: { execution: { processes: 3, flush_size: 3, statements: 4 } }
        test: { execution: { threads: 9 } }
    YAML
    settings = configuration(overrides: { execution: { statements: 6 } }, TASKER_CORE__EXECUTION__FLUSH_SIZE: "5",
                             TASKER_CORE__EXECUTION__STATEMENTS: "5", HOME: "/")
    expect(settings[:execution]).to include(claim_batch: 200, threads: 2, processes: 3, flush_size: 5, statements: 6)
    origins = settings.describe[:settings].to_h { |setting| [setting[:path], setting[:origin]] }
    expect(origins).to include("execution.claim_batch" => "default",
                               "execution.threads" => end_with("config/tasker-core.yaml"),
                               "execution.processes" => end_with("tasker-core.yaml, environments.production"),
                               "execution.flush_size" => "TASKER_CORE__EXECUTION__FLUSH_SIZE",
                               "execution.statements" => "the application's code")
    expect(configuration(environment: "test")[:execution, :threads]).to eq 9
    expect(settings.with(execution: { threads: 4 })[:execution])
      .to include(threads: 4, processes: 3, flush_size: 5, statements: 6)
  end

  it "rejects a section for an unknown environment" do
    file("environments: { prodution: { execution: { threads: 2 } } }\n")
    FileUtils.mkdir_p("#{@directory}/config/environments")
    %w[development production].each { |name| File.write("#{@directory}/config/environments/#{name}.rb", "") }
    expect { described_class.in(@directory, environment: "production").to_h }
      .to raise_error(TaskerCore::ConfigurationError,
                      /environments.prodution: .* is not an environment of this application: did you mean `prod/)
    FileUtils.rm_rf("#{@directory}/config/environments")
    expect(described_class.in(@directory, environment: "production")[:execution, :threads]).to eq 5
  end

  it "rejects a variable that misspells the underscores" do
    %i[TASKER_CORE_EXECUTION__THREADS TASKER_CORE__EXECUTION_THREADS TASKER_CORE_EXECUTION_THREADS
       tasker_core__execution__threads].each do |name|
      expect { configuration(name => "3").to_h }
        .to raise_error(TaskerCore::ConfigurationError,
                        /#{name}: "3" \(string\) is not a setting: did you mean `TASKER_CORE__EXECUTION__THREADS`\?/)
    end
    expect(configuration(TASKER_CORE_TOKEN: "x")[:execution, :threads]).to eq 5
  end

  it "reports all problems with source, value and nearest name" do
    path = file("executon: { threads: 1 }\nretry: { base: soon }\n")
    wrong = configuration(overrides: { limits: { payload_depth: 0 } }, TASKER_CORE__STEPS__TIMEOT: "1s")
    expect { wrong.to_h }.to raise_error(TaskerCore::ConfigurationError) { |error|
      expect(error.problems.map { _1.values_at("source", "field") })
        .to contain_exactly([path, "executon"], [path, "retry.base"], [nil, "limits.payload_depth"],
                            ["the environment", "steps.timeot"])
      expect(error.message)
        .to include("did you mean `execution`?", "\"soon\" (string) must be a duration", "did you mean `timeout`?")
    }
  end

  it "reads the application's file and never the gem's own" do
    expect(described_class.in(@directory, environment: "test")[:execution, :threads]).to eq 5
    file("execution: { threads: 8 }\n")
    expect(described_class.in(@directory, environment: "test")[:execution, :threads]).to eq 8
    own = described_class.in(root, environment: "test").describe[:settings]
    expect(own.map { _1[:origin] }.grep(/yaml/)).to eq []
  end

  it "is documented, key by key, in docs/configuration.md" do
    document = File.read("#{root}/docs/configuration.md")
    settings = configuration.describe[:settings]
    expect(settings.size).to be > 50
    expect(settings.reject { |setting| document.include?("| `#{setting[:path]}` |") }).to eq []
  end

  describe "systems" do
    let(:systems) do
      bank = { base_url: "http://bank.example:8080/v1/", concurrency: 2 }
      configuration(overrides: { systems: { "*": { read_timeout: 3 }, bank: bank } }).systems
    end

    it "merges each system with the shared settings" do
      expect(systems.keys).to eq ["bank"]
      expect(systems["bank"])
        .to have_attributes(connect_timeout: 2.0, read_timeout: 3.0, concurrency: 2,
                            base_url: "http://bank.example:8080/v1/")
      expect(systems["bank"].uri("/charges").to_s).to eq "http://bank.example:8080/v1/charges"
    end

    it "opens connections with the system's time-outs" do
      server = TCPServer.new("127.0.0.1", 0)
      silent = configuration(overrides: { systems: { silent: { base_url: "http://127.0.0.1:#{server.addr[1]}",
                                                               read_timeout: "50ms" } } })
      request = -> { silent.systems["silent"].connect { |http| http.max_retries = 0 and http.get("/") } }
      expect(&request).to raise_error(Net::ReadTimeout)
      slow = configuration(overrides: { systems: { slow: { base_url: "https://slow.example/v1", connect_timeout: "7s",
                                                           read_timeout: "9s" } } })
      allow(Net::HTTP).to receive(:start)
      slow.systems["slow"].connect { nil }
      expect(Net::HTTP)
        .to have_received(:start).with("slow.example", 443, use_ssl: true, open_timeout: 7.0, read_timeout: 9.0,
                                                            write_timeout: 9.0)
    ensure
      server.close
    end

    it "allows steps to name only configured systems" do
      compile = lambda do |name|
        steps = [{ name: "a", handler: "A", system: name }]
        TaskerCore::Bridge.compile(
          { name: "w", steps: steps },
          configuration: configuration(overrides: { systems: { bank: { base_url: "http://b.example" } } })
        )
      end
      expect(JSON.parse(compile.call("bank").definition_json)["steps"].first).to include("system" => "bank")
      expect { compile.call("bakn") }
        .to raise_error(TaskerCore::WorkflowError, /steps\[0\].system: "bakn" .*did you mean `bank`/)
      expect { compile.call("*") }.to raise_error(TaskerCore::WorkflowError, /set `systems.\*.base_url`/)
    end
  end
end
