# frozen_string_literal: true

require "open3"

# Text from outside is read as UTF-8 under every locale.
RSpec.describe TaskerCore::Support::Utf8 do
  let(:mark) { "\uFEFF" }
  let(:workflow) { <<~YAML }
    name: greeting
    version: 1.0.0
    description: schöne Grüße
    steps:
      - name: one
        handler: GreetingInUtf8
  YAML

  around do |example|
    Dir.mktmpdir { |parent| Dir.mkdir(@directory = "#{parent}/dé") && example.run }
  end

  def write(name, text) = File.binwrite("#{@directory}/#{name}", text)

  # @return [Array(Integer, String, String)] exit status, output and errors of `tasker`, run in the directory
  def tasker(*arguments, input: "", **variables)
    env = { "BUNDLE_GEMFILE" => "#{root}/Gemfile", "RAILS_ENV" => "test", **variables.transform_keys(&:to_s) }
    out, err, status = Open3.capture3(env, RbConfig.ruby, "-I#{root}/lib", "#{root}/exe/tasker", *arguments,
                                      chdir: @directory, stdin_data: input, binmode: true)
    [status.exitstatus, described_class.text(out), described_class.text(err)]
  end

  { "LC_ALL=C" => { LC_ALL: "C" }, "no locale" => { LC_ALL: nil, LC_CTYPE: nil, LANG: nil } }.each do |name, variables|
    it "runs a workflow with UTF-8 everywhere under #{name}" do
      FileUtils.mkdir("#{@directory}/config")
      write("config/tasker-core.yaml", "#{mark}logging:\n  fields: [\"shop=Zoë\"]\n")
      write("wort.txt", "schön")
      write("ïn.json", json = "#{mark}{\"name\": \"Zoë\"}")
      write("wörkflow.yaml", mark + workflow)
      write("händler.rb", "class GreetingInUtf8 < TaskerCore::StepHandler\n  def call(context) = { \"grüß\" => " \
                          "context.input[\"name\"], file: File.read(\"wort.txt\") }\nend\n")
      TaskerCore::Development::Database.temporary(SERVER_URL, "tasker_core_locale#{ENV['TEST_ENV_NUMBER']}") do |url|
        source = variables[:LC_ALL] ? "-" : "ïn.json"
        result = tasker("run", "wörkflow.yaml", "--require", "händler.rb", "--input", source, "--json", "--prepare",
                        input: json, DATABASE_URL: url, **variables)
        expect(result.values_at(0, 2)).to eq [0, ""]
        expect(JSON.parse(result[1])["results"]).to eq("one" => { "grüß" => "Zoë", "file" => "schön" })
      end
      ActiveRecord::Base.establish_connection(ENV.fetch("DATABASE_URL"))
    end
  end

  it "accepts and prints UTF-8 arguments under LC_ALL=C" do
    application = ["--require", "#{root}/spec/dummy/config/environment.rb"]
    task = Diamond.set(tags: ["Zoë"]).create!(n: 2)
    status, out, err = tasker("list", "--tag", "Zoë", *application, LC_ALL: "C")
    expect([status, err]).to eq [0, ""]
    expect(out).to include "diamond"
    status, _, err = tasker("cancel", task.id.to_s, "--reason", "grün", "--by", "Zoë", *application, LC_ALL: "C")
    expect([status, err]).to eq [0, ""]
    expect(TaskerCore::TaskEvent.last).to have_attributes(reason: "grün", actor: "Zoë")
    status, out, err = tasker("config", "--changed", LC_ALL: "C", TASKER_CORE__LOGGING__FIELDS: "a=Zoë")
    expect([status, err]).to eq [0, ""]
    expect(out).to include 'fields: ["a=Zoë"]'
  end

  describe "text in another encoding" do
    def refusal(*arguments, input: "")
      stdin = $stdin
      $stdin = StringIO.new(input)
      settings = TaskerCore.config
      err = StringIO.new
      status = Dir.chdir(@directory) { TaskerCore::CLI.new(out: StringIO.new, err: err).run(arguments) }
      [status, err.string]
    ensure
      $stdin = stdin
      TaskerCore.configure(settings)
    end

    before { write("workflow.yaml", workflow) }

    it "is rejected in one sentence that names the place" do
      write("latin.yaml", workflow.encode("ISO-8859-1"))
      write("latin.json", "{\"a\":\n\"Zo\xEB\"}".b)
      {
        %w[graph latin.yaml] => "tasker: latin.yaml line 3, byte 47: 0xf6 is not UTF-8: save it as UTF-8\n",
        %w[run latin.yaml] => "tasker: latin.yaml line 3, byte 47: 0xf6 is not UTF-8: save it as UTF-8\n",
        %w[run workflow.yaml --input latin.json] => "tasker: --input latin.json: line 2, byte 10: 0xeb is not " \
                                                    "UTF-8: save it as UTF-8\n",
        ["list", "--tag", "Zo\xEB".b] => "tasker: argument 3 (Zo\u{fffd}) is not UTF-8: encode it as UTF-8\n"
      }.each { |arguments, sentence| expect(refusal(*arguments)).to eq([2, sentence]), arguments.inspect }
      expect(refusal("run", "workflow.yaml", "--input", "-", input: "\xEB"))
        .to eq [2, "tasker: --input -: line 1, byte 1: 0xeb is not UTF-8: save it as UTF-8\n"]
    end

    it "is rejected in settings and environment variables" do
      FileUtils.mkdir("#{@directory}/config")
      write("config/tasker-core.yaml", "execution:\n  queues: [\"gr\xFCn\"]\n".b)
      configuration = TaskerCore::Configuration.in(@directory, environment: "test")
      expect { configuration.to_h }
        .to raise_error(TaskerCore::ConfigurationError,
                        %r{dé/config/tasker-core.yaml: line 2, byte 26: 0xfc is not UTF-8})
      configuration = TaskerCore::Configuration.new(variables: { "TASKER_CORE__LOGGING__FIELDS" => "a=Zo\xEB" })
      expect { configuration.to_h }
        .to raise_error(TaskerCore::ConfigurationError,
                        "the environment variable TASKER_CORE__LOGGING__FIELDS is not UTF-8: encode it as UTF-8")
    end
  end

  it "reads every file of the gem" do
    reading = /\b(File|IO|Pathname\(.*\))\.(read|readlines|foreach|open|new)\b|\.readlines\b|load_file\(|\$stdin\.read/
    places = Dir["#{root}/{lib,app,exe,db}/**/*.{rb,tt}"].flat_map do |path|
      File.foreach(path, encoding: "UTF-8").grep(reading).map { |line| "#{File.basename(path)}: #{line.strip}" }
    end
    known = ["encoding: Encoding::UTF_8", "Utf8.read_all", "workflows.load_file", "def load_file",
             "{ |path| load_file(path) }", "YAML.load_file"] # Psych reads UTF-8 itself
    expect(places.grep_v(Regexp.union(known))).to eq []
  end
end
