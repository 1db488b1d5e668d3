# frozen_string_literal: true

require "pty"

# The commands that show tasks and act on them. Most examples run in this process; those that need a process or a
# terminal of their own are at the end.
RSpec.describe "The operator's commands" do
  around { |example| Dir.mktmpdir { |directory| (@directory = directory) && example.run } }

  RSpec::Matchers.define_negated_matcher :not_include, :include

  # @return [Array(String, String, Integer)] standard output, standard error and exit status
  def tasker(*arguments, from: "#{root}/spec/dummy")
    out = StringIO.new
    err = StringIO.new
    status = Dir.chdir(from) { TaskerCore::CLI.new(out: out, err: err).run(arguments.map(&:to_s)) }
    [out.string, err.string, status]
  end

  def stdout_of(*arguments)
    tasker(*arguments).then { |out, err, status| status.zero? ? out : raise("#{err} (#{status})") }
  end

  def json(*arguments) = JSON.parse(stdout_of(*arguments, "--json"))

  # The object as the API returns it.
  def as_json_value(object) = JSON.parse(JSON.generate(object))

  def broken
    Repairable.create!.tap { |task| with_worker { task.wait(timeout: 120) } }
  end

  # One step has failed permanently, and one waits for its next attempt.
  def half_done
    Three.create!.tap do |task|
      with_worker { eventually { task.steps.map(&:state) == %w[complete error waiting] } }
    end
  end

  # Without values that change between two calls.
  def still(value)
    case value
    when Hash then value.except("elapsed_ms").transform_values { |inner| still(inner) }
    when Array then value.map { |inner| still(inner) }
    else value
    end
  end

  def operator_events(task) = task.events.map { |event| [event.action, event.position, event.actor, event.reason] }

  describe "list" do
    it "prints newest tasks first, with state, steps and durations" do
      first = Line.create!(n: 2)
      second = Three.create!
      with_worker { first.wait(timeout: 120) }
      heading, *rows = stdout_of("list").lines.map(&:chomp)
      expect(heading).to match(/\ATASK +WORKFLOW +STATE +STATUS +STEPS +CREATED \(UTC\) +ELAPSED +RAN\z/)
      created = second.created_at.utc.strftime("%F %T")
      durations = /[\d.]+ m?s +[\d.]+ m?s/
      expect(rows).to match [
        /\A#{second.id} +default.three \S+ +in_progress +blocked_by_failures +1 of 3 +#{created} +#{durations}\z/,
        /\A#{first.id} +default.line \S+ +complete +- +4 of 4 +[\d :-]+ +#{durations}\z/
      ]
    end

    it "accepts each filter as an option" do
      id = "0190163d-8694-739b-aea5-966c26f8ad91"
      red = Line.set(tags: %w[red square], correlation_id: id).create!(n: 2)
      blue = Line.set(tags: %w[blue square]).create!(n: 3)
      three = Three.create!
      yaml = TaskerCore.workflow("yaml_diamond", namespace: "files").create!(n: 2)
      {
        %w[--tag red --tag square] => [red],
        %w[--tag square] => [blue, red],
        %w[--workflow line] => [blue, red],
        %w[--workflow default.three] => [three],
        %w[--workflow files.line] => [],
        %w[--namespace files] => [yaml],
        %w[--version 1.0.0] => [yaml],
        ["--correlation-id", id] => [red],
        ["--input", '{"n": 3}'] => [blue],
        %w[--state complete,error] => [],
        %w[--state pending --limit 3] => [yaml, three, blue],
        %w[--since 1h] => [yaml, three, blue, red],
        %w[--until 1h] => []
      }.each do |options, tasks|
        expect([options, json("list", *options)["tasks"].map { _1["id"] }]).to eq [options, tasks.map(&:id)]
      end
      expect(stdout_of("list", "--state", "error")).to eq "no task matches\n"
    end

    it "prints the command for the next page" do
      oldest, middle, newest = Array.new(3) { Line.create!(n: 2) }
      first = stdout_of("list", "--limit", "1", "--input", '{"n": 2}')
      expect(first).to include("#{newest.id} ").and not_include("#{middle.id}  ")
      following = first[/^continue with: tasker (.*)$/, 1]
      expect(following).to eq "list --limit 1 --input \\{\\\"n\\\":\\ 2\\} --after #{newest.uuid}"
      second = stdout_of(*following.shellsplit)
      expect(second.lines[1]).to start_with "#{middle.id} "
      third = stdout_of(*second[/^continue with: tasker (.*)$/, 1].shellsplit)
      expect(third.lines[1]).to start_with "#{oldest.id} "
      expect(third).not_to include "there are more"
    end

    it "prints the API's JSON" do
      task = Line.create!(n: 2)
      expect(still(json("list")))
        .to eq("tasks" => still(as_json_value(TaskerCore::HTTP::Serializer.tasks([task]))), "next" => nil)
    end

    {
      %w[--state eror] => /state: "eror" \(String\) must be one or more of/,
      %w[--since yesterday] => /since: "yesterday" \(String\) must be a time such as/,
      %w[--input [1]] => /--input: Array must be a JSON object/,
      %w[--input {] => /--input: is not JSON/,
      %w[--limit 0] => /--limit: 0 must be from 1 to 1000/,
      %w[--limit many] => /invalid argument: --limit many/,
      %w[--after 7] => /after: "7" \(String\) must be the `next` of another page/,
      %w[--workflow shop.order --namespace web] => /--namespace: web contradicts --workflow shop.order/,
      %w[twice] => /list: twice: unexpected argument/
    }.each do |options, message|
      it "rejects #{options.join(' ')}" do
        expect(tasker("list", *options)).to match ["", /\Atasker: .*#{message}/, 2]
      end
    end
  end

  describe "show" do
    it "prints a task, its steps and errors with their location" do
      task = half_done
      out = stdout_of("show", task.id)
      expect(out)
        .to include("task #{task.id}: default.three ", "in_progress (blocked_by_failures)", task.uuid,
                    task.correlation_id)
      expect(out).to match(/^well +complete +1 of 3 .*\nhopeless +error +1 of 3 .*\npatient +waiting +1 of 2 /)
      expect(out).to match(%r{^hopeless:
  error   TaskerCore::PermanentError \(unknown_article\): no such article
  at      app/workflows/three.rb:\d+})
      expect(out).to match(/^patient:\n  error   RuntimeError: not yet\n  at .*\n  waits   retry, until [\d :-]+ UTC$/)
      expect(out).to include "`tasker why #{task.id}` explains it"
      elapsed = /^  elapsed .*$/
      expect(stdout_of("show", task.uuid).sub(elapsed, "")).to eq out.sub(elapsed, "")
    end

    it "locates an error in the application, not in a gem" do
      stub_const("Curious", Class.new(TaskerCore::StepHandler) { def call(context) = context.results["nowhere"] })
      File.write("#{@directory}/curious.yaml",
                 JSON.generate(name: "curious", steps: [{ name: "only", handler: "Curious", retryable: false }]))
      task = TaskerCore::Workflows::YamlFile.new("#{@directory}/curious.yaml").create!
      with_worker { task.wait(timeout: 120) }
      expect(task.steps.first.error["backtrace"].first).to include "lib/tasker_core/step_results.rb"
      expect(stdout_of("show", task.id))
        .to match(/^only:\n  error   TaskerCore::UnknownStepError \(programming_error\): .*\n  at      #{__FILE__}:\d+/)
    end

    it "prints input and results on request only" do
      task = Line.create!(n: 3)
      with_worker { task.wait(timeout: 120) }
      expect(stdout_of("show", task.id)).not_to match(/"n"/)
      expect(stdout_of("show", task.id, "--results")).to include('{"n":3}', '{"n":9}', '{"n":43046721}')
    end

    it "prints operator actions with control characters escaped" do
      task = half_done
      task.step("hopeless").resolve!(reason: "ordered\e[31m elsewhere", by: "ada")
      expect(stdout_of("show", task.id))
        .to match(/^operator actions\n  [\d :-]+ ada: resolve hopeless: ordered\\u001b\[31m elsewhere$/)
    end

    it "prints each attempt of one step" do
      out = stdout_of("show", broken.id, "second")
      expect(out).to start_with("second: error, 2 of 2 attempts\n  after   first\n")
      expect(out.lines.grep(/^[12] +failed +\d+ .*RuntimeError: broken$/).size).to eq 2
    end

    it "prints the API's JSON" do
      task = half_done
      expect(still(json("show", task.id)))
        .to eq still(as_json_value(TaskerCore::HTTP::Serializer.task_with_steps(task)))
      expect(json("show", task.id, "patient"))
        .to eq as_json_value(TaskerCore::HTTP::Serializer.step(task.step("patient")))
    end

    it "reports an unknown task or step" do
      expect(tasker("show", "77"))
        .to eq ["", "tasker: there is no task 77: use the number or the uuid of a task\n", 2]
      expect(tasker("show", broken.id, "secnd"))
        .to match ["", /\Atasker: secnd is not a step of task \d+: did you mean second\?\n\z/, 2]
      expect(tasker("show")).to eq ["", "tasker: show: TASK is missing: tasker show TASK [STEP] [options]\n", 2]
    end
  end

  describe "why" do
    it "prints what a task waits for, and the remedies" do
      task = half_done
      diagnosis = TaskerCore::Diagnosis.new(task)
      first, *rest = stdout_of("why", task.id).split("\n\n")
      expect(first).to start_with "task #{task.id} (default.three "
      expect(rest.size).to eq 2
      expect(rest[0])
        .to start_with "#{diagnosis.reasons[0].explanation}\n  → fix the cause, then `tasker retry #{task.id} hopeless"
      expect(rest[1])
        .to match(/\Apatient waits for attempt 2 of 2 .*\n  → to run it now: `tasker retry #{task.id} patient/)
      expect(json("why", task.id))
        .to include("task" => task.id, "reasons" => [include("step" => "hopeless"), include("step" => "patient")])
    end

    it "prints one line when nothing is to be done" do
      task = Line.create!(n: 2)
      with_worker { task.wait(timeout: 120) }
      expect(stdout_of("why", task.id)).to match(/\Atask \d+ \(default.line \S+\) is complete: .*\n\z/)
    end
  end

  describe "a failed step" do
    it "is diagnosed, retried by the command of the diagnosis" do
      task = broken
      diagnosed = stdout_of("why", task.id)
      expect(diagnosed).to include("second failed permanently in attempt 2 of 2 with RuntimeError: broken")
      Repairable.repaired = true
      command = diagnosed[/`tasker (retry [^`]*)`/, 1].sub("TEXT", "'the world is repaired'").shellsplit
      expect(stdout_of(*command))
        .to match(/second: error → ready\ntask \d+ .* second has been ready for .* there is no worker$/)
      with_worker { task.wait(timeout: 120) }
      expect(stdout_of("why", task.id)).to include "is complete: 3 of 3 steps done"
      expect(stdout_of("show", task.id, "--results"))
        .to match(/^third:\n  result  {"saw":{"by":"handler","attempt":1}}$.*retry second: the world is repaired$/m)
    end
  end

  it "include every command that a diagnosis or a finding names" do
    named = Dir["#{root}/lib/tasker_core/{diagnosis,doctor}/*.rb"].flat_map do |path|
      File.read(path).scan(/command\('(\w+)'|`tasker (\w+)/).flatten.compact
    end
    expect(named).to include("retry", "resolve", "complete", "release", "work", "doctor", "audit")
    expect(named - TaskerCore::CLI.commands.keys).to eq []
  end

  describe "retry" do
    it "resets the attempts of a failed step and records the action" do
      task = broken
      out = stdout_of("retry", task.id, "second", "--reason", "repaired", "--by", "ada")
      expect(out).to start_with("task #{task.id}: error → in_progress\nsecond: error → ready\n")
      expect(task.step("second")).to have_attributes(state: "ready", attempts: 0)
      expect(operator_events(task)).to eq [["retry", 1, "ada", "repaired"]]
    end

    it "makes a waiting step ready at once" do
      task = half_done
      expect(stdout_of("retry", task.id, "patient", "--reason", "no need to wait"))
        .to start_with("patient: waiting → ready\n")
      expect(operator_events(task)).to match [["retry", 2, /\A.+@.+\z/, "no need to wait"]]
    end

    it "requeues only the failed steps when no step is given" do
      task = half_done
      expect(stdout_of("retry", task.id, "--reason", "repaired")).to start_with("hopeless: error → ready\n")
      expect(outline(task)).to eq [["well", "complete", 1], ["hopeless", "ready", 0], ["patient", "waiting", 1]]
    end

    it "wakes all waiting steps when none has failed" do
      task = Three.set(wait_until: 1.hour.from_now).create!
      expect(stdout_of("retry", task.id, "--reason", "sooner"))
        .to start_with("well: waiting → ready\nhopeless: waiting → ready\npatient: waiting → ready\n")
      expect(operator_events(task)).to match [["retry", nil, String, "sooner"]]
    end

    it "exits with 1 when no step failed or waits" do
      task = Line.create!(n: 2)
      expect(tasker("retry", task.id, "--reason", "x"))
        .to match ["", /\Atasker: task \d+ is pending and has no waiting or failed step: there is nothing /, 1]
      expect(tasker("retry", task.id, "a", "--reason", "x"))
        .to match ["", /\Atasker: step a of task \d+ is ready: only a waiting or failed step can /, 1]
      expect(task.events).to be_empty
    end

    it "prints the task as the API returns it, and the changes" do
      task = broken
      response = json("retry", task.id, "second", "--reason", "repaired")
      expect(still(response)).to eq("task" => still(as_json_value(TaskerCore::HTTP::Serializer.task(task.reload))),
                                    "changed" => [{ "step" => nil, "from" => "error", "to" => "in_progress" },
                                                  { "step" => "second", "from" => "error", "to" => "ready" }])
      expect(response["task"]).to include("ended_at" => nil)
    end
  end

  describe "cancel" do
    it "cancels a task" do
      task = Line.create!(n: 2)
      expect(stdout_of("cancel", task.id, "--reason", "wrong number"))
        .to start_with("task #{task.id}: pending → cancelled\na: ready → cancelled\n")
      expect([task.state, operator_events(task).map(&:last)]).to eq ["cancelled", ["wrong number"]]
      expect(tasker("cancel", task.id, "--reason", "again"))
        .to eq ["", "tasker: task #{task.id} is cancelled: only a task that has not ended can be cancelled\n", 1]
    end

    it "prints twenty changes and counts the others" do
      steps = Array.new(30) { |number| { name: "s#{number}", handler: "Square" } }
      file = "#{@directory}/wide.yaml"
      File.write(file, JSON.generate(name: "wide", steps: steps))
      task = TaskerCore::Workflows::YamlFile.new(file).create!
      expect(stdout_of("cancel", task.id, "--reason", "too many"))
        .to include("s18: ready → cancelled\nand 11 more steps\n")
    end
  end

  describe "resolve" do
    it "resolves a step and unblocks its children" do
      task = broken
      expect(stdout_of("resolve", task.id, "second", "--reason", "done elsewhere"))
        .to start_with("task #{task.id}: error → in_progress\nsecond: error → " \
                       "resolved_manually\nthird: pending → ready\n")
    end

    it "resolves a task that ended with an error" do
      task = broken
      expect(stdout_of("resolve", task.id, "--reason", "refunded"))
        .to start_with("task #{task.id}: error → resolved_manually\n")
      expect(tasker("resolve", task.id, "--reason", "again").last).to eq 1
    end
  end

  describe "complete" do
    it "completes a step with a result that its children read" do
      task = broken
      stdout_of("complete", task.id, "second", "--result", '{"by": "ada"}', "--reason", "done elsewhere")
      with_worker { task.wait(timeout: 120) }
      expect(task.results["third"]).to eq("saw" => { "by" => "ada" })
    end

    it "rejects a result that is not an object, and a missing step" do
      expect(tasker("complete", "1", "a", "--result", "[]", "--reason", "x"))
        .to match ["", /--result: Array must be a JSON object/, 2]
      expect(tasker("complete", "1", "--result", "{}", "--reason", "x")).to match ["", /complete: STEP is missing/, 2]
    end
  end

  describe "update_result" do
    it "replaces the result of a complete step" do
      task = broken
      out = stdout_of("update_result", task.id, "first", "--result", '{"n": 1}', "--reason", "miscounted")
      expect(out).to start_with "first: replaced the result\n"
      expect(task.results["first"]).to eq("n" => 1)
      expect(tasker("update_result", task.id, "second", "--result", "{}", "--reason", "x").last).to eq 1
      expect(tasker("update_result", task.id, "first", "--reason", "x"))
        .to match ["", /update_result: --result is missing/, 2]
    end
  end

  describe "release" do
    it "releases a step from the process that runs it" do
      task = Held.create!
      with_worker(threads: 1) do
        Held::RUNNING.pop
        expect(stdout_of("release", task.id, "only", "--reason", "its machine hangs"))
          .to match(/^only: in_progress → \w+$/)
        expect(operator_events(task)).to match [["release", 0, String, "its machine hangs"]]
        2.times { Held::FINISH << true }
        task.wait(timeout: 120)
      end
      Held::RUNNING.clear
      Held::FINISH.clear
      expect(tasker("release", task.id, "only", "--reason", "x"))
        .to match ["", /only a running step can be released/, 1]
    end
  end

  describe "doctor" do
    it "prints the findings and remedies of each check" do
      out = stdout_of("doctor")
      expect(out).to match(/^ok       settings +\S.*\nok       versions +\S/)
      expect(out).to match(/^warning  workers +\S.*\n +→ .*`tasker work`/)
      expect(out).to match(/^\d+ findings: 0 errors, 1 warning$/)
    end

    it "exits with 1 on an error" do
      Line.create!(n: 2)
      connection = ActiveRecord::Base.connection
      connection.execute("set tasker_core.clock_offset = '1 hour'")
      out, err, status = tasker("doctor", "--json")
      expect([err, status]).to eq ["", 1]
      expect(JSON.parse(out)["findings"])
        .to include(include("check" => "queues", "severity" => "error", "remedy" => /tasker work/))
    ensure
      connection.execute("reset tasker_core.clock_offset")
    end
  end

  %w[retry cancel resolve].each do |name|
    it "#{name} requires a reason" do
      task = Line.create!(n: 2)
      [[], ["--reason", " "]].each do |reason|
        expect(tasker(name, task.id, *reason))
          .to eq ["", "tasker: #{name}: --reason is missing: --reason TEXT is recorded with the action\n", 2]
      end
      expect(task.state).to eq "pending"
    end
  end

  describe "graph" do
    it "draws a task with the states of its steps" do
      task = broken
      expect(stdout_of("graph", task.id)).to eq TaskerCore::Graph.of_task(task).to_text
      expect(json("graph", task.uuid)).to eq as_json_value(TaskerCore::Graph.of_task(task).to_h)
    end

    it "draws a declared workflow, with or without its namespace" do
      text = stdout_of("graph", "files.yaml_diamond")
      expect(text).to include("files.yaml_diamond 1.0.0", "d ← b, c")
      expect(stdout_of("graph", "yaml_diamond")).to eq text
    end

    it "draws the latest version of a workflow that only is stored" do
      ["1.0.0", "2.0.0"].each do |version|
        File.write("#{@directory}/past.yaml", JSON.generate(name: "past", namespace: "gone", version: version,
                                                            steps: [{ name: "only", handler: "Square" }]))
        TaskerCore::Workflows::YamlFile.new("#{@directory}/past.yaml").create!
      end
      expect(stdout_of("graph", "past")).to start_with "gone.past 2.0.0\n"
      expect(tasker("graph", "gone.pats"))
        .to eq ["", "tasker: graph: there is no workflow gone.pats: did you mean gone.past?\n", 2]
    end

    it "draws a workflow file without an application" do
      FileUtils.cp("#{root}/spec/dummy/config/tasker/workflows/yaml_diamond.yaml", @directory)
      out, err, status = tasker("graph", "yaml_diamond.yaml", from: @directory)
      expect([err, status]).to eq ["", 0]
      expect(out).to start_with "files.yaml_diamond 1.0.0\n"
      expect(tasker("graph", "nowhere.yaml", from: @directory))
        .to match ["", /"nowhere.yaml" cannot be read: No such file/, 2]
    end

    it "writes a file in the format of its extension or --format" do
      expect(tasker("graph", "diamond", "--output", "#{@directory}/d.svg").last).to eq 0
      expect(File.read("#{@directory}/d.svg")).to eq TaskerCore::Graph.of_workflow(Diamond).to_svg
      stdout_of("graph", "diamond", "--output", "#{@directory}/d.txt", "--format", "mermaid")
      expect(File.read("#{@directory}/d.txt")).to eq TaskerCore::Graph.of_workflow(Diamond).to_mermaid
      expect(tasker("graph", "diamond", "--output", "#{@directory}/no/d.svg"))
        .to match ["", /\Atasker: --output .*: No such file/, 2]
      expect(tasker("graph", "diamond", "--format", "png"))
        .to eq ["", "tasker: --format: png must be one of text, mermaid, svg\n", 2]
    end
  end

  describe "workflows" do
    it "lists declared and stored workflows" do
      Line.create!(n: 2)
      out = stdout_of("workflows")
      expect(out).to match(/^default.line +0.0.0\+\h+ +4 +Line +\d{4}-[\d :-]+$/)
      expect(out).to match(%r{^files.yaml_diamond +1.0.0 +4 +config/tasker/workflows/yaml_diamond.yaml +})
      expect(out).not_to include "SquareWorkflow"
      version = TaskerCore::WorkflowVersion.find_by!(name: "line")
      expect(json("workflows")["workflows"])
        .to include(as_json_value(TaskerCore::HTTP::Serializer.workflow(version)).merge("declared_in" => "Line"))
    end

    it "exits with 1 when a workflow cannot be compiled" do
      stub_const("Broken", Class.new(TaskerCore::Workflow) { step :only })
      TaskerCore.workflows.declare("Broken")
      out, err, status = tasker("workflows")
      expect([out, err, status]).to match [/default.line/, /\Atasker: Broken: step only of Broken has no handler/, 1]
    end
  end

  it "print a version as JSON" do
    expect(json("version")).to eq("version" => TaskerCore::VERSION)
    expect(json("config", "check")).to eq("valid" => true)
  end

  it "print their usage" do
    out, err, status = tasker("help", "resolve")
    expect([err, status]).to eq ["", 0]
    expect(out).to include("Usage: tasker resolve TASK [STEP] [options]", "--reason TEXT", "--json")
    expect(out).not_to include "--result"
    expect(stdout_of("help", "complete")).to include("Usage: tasker complete TASK STEP [options]", "--result JSON")
    expect(tasker("resolve", "--help")).to eq [out, "", 0]
    expect(tasker("help", "resolv"))
      .to eq ["", "tasker: resolv: unknown command: did you mean `tasker resolve`?\n", 2]
  end

  it "find the application from a directory below its root" do
    expect(tasker("list", from: "#{root}/spec/dummy/app/workflows")).to eq ["no task matches\n", "", 0]
    expect(tasker("list", from: @directory))
      .to eq ["", "tasker: there is no config/environment.rb here or above: run the command in a Rails application, " \
                  "or name a file with --require\n", 2]
  end

  describe "in a process of their own" do
    def environment(settings)
      { "RAILS_ENV" => "test", "DATABASE_URL" => ENV.fetch("DATABASE_URL"), "NO_COLOR" => nil, "TERM" => "xterm" }
        .merge(settings)
    end

    def command(*arguments) = [RbConfig.ruby, "-I#{root}/lib", "#{root}/exe/tasker", *arguments.map(&:to_s)]

    # The output on a terminal of 60 columns.
    def on_terminal(*arguments, **settings)
      terminal, device = PTY.open
      device.winsize = [24, 60]
      pid = spawn(environment(settings), *command(*arguments), chdir: "#{root}/spec/dummy", out: device, err: device)
      device.close
      read_all(terminal)
    ensure
      terminal&.close
      Process.wait(pid) if pid
    end

    def read_all(terminal)
      text = +""
      loop { text << terminal.readpartial(4096) }
    rescue EOFError, Errno::EIO # the other side has closed
      text.force_encoding(Encoding::UTF_8).gsub("\r\n", "\n")
    end

    it "use the terminal's colours and width unless NO_COLOR is set" do
      task = broken
      lines = on_terminal("list").lines.map(&:chomp)
      expect(lines[1]).to match(/\A#{task.id} .*…  \e\[31merror\e\[0m  1 of 3/)
      expect(lines.map { |line| line.gsub(/\e\[\d+m/, "").size }).to all(be <= 60)
      expect(on_terminal("graph", task.id))
        .to include "\e[32m✔ first (complete)\e[0m\n\e[31m  ✘ second ← first (error, attempt 2): broken\e[0m\n"
      as_json_value = on_terminal("list", "NO_COLOR" => "1")
      expect(as_json_value).to include("error").and not_include("\e[")
    end

    it "draw a running task's steps in colours" do
      File.write("#{@directory}/handlers.rb", "class Trial < TaskerCore::StepHandler\n  def call(_context) = " \
                                              "raise(TaskerCore::PermanentError, 'no')\nend\n")
      File.write("#{@directory}/trial.yaml", "name: trial\nsteps:\n  - { name: only, handler: Trial }\n")
      out = on_terminal("run", "#{@directory}/trial.yaml", "--require", "#{@directory}/handlers.rb")
      expect(out).to match(/\e\[2K\e\[31m✘ only \(error\): no\e\[0m\n\e\[2Ktask \d+: error\n(tasker_core: .*\n)?\z/)
    end

    it "end silently when the reader closes the pipe" do
      reader, writer = IO.pipe
      error_file = Tempfile.new(encoding: "UTF-8")
      pid = spawn(environment({}), *command("config"), chdir: @directory, out: writer,
                                                       err: error_file.path) # more than Ruby holds back
      [reader, writer].each(&:close)
      expect(Process.wait2(pid).last.exitstatus).to eq 0
      expect(error_file.read).to eq ""
    end

    it "print without colours and width into a pipe" do
      task = broken
      out, err, status = Open3.capture3(environment({}), *command("graph", task.id), chdir: "#{root}/spec/dummy/app")
      expect([out, err, status.exitstatus]).to eq [TaskerCore::Graph.of_task(task).to_text, "", 0]
    end

    it "exit with 2 and one sentence without a database" do
      away = environment("DATABASE_URL" => "postgresql:///nowhere?host=/nowhere&user=postgres")
      out, err, status = Open3.capture3(away, *command("list"), chdir: "#{root}/spec/dummy")
      expect([out, err, status.exitstatus]).to match ["", /\Atasker: the database cannot be used: .+\n\z/, 2]
      out, _, status = Open3.capture3(away, *command("doctor"), chdir: "#{root}/spec/dummy")
      expect([out, status.exitstatus]).to match [/^error    database .*\n +→ /, 1]
    end
  end
end
