# frozen_string_literal: true

# S21: handlers that return, raise and do what no handler should. Their own step ends with an error that explains it;
# the worker, its threads and all other steps continue.
RSpec.describe "Poison" do
  # Runs the block as a step's handler, once, on a worker with a single thread; then a whole workflow on the same
  # worker, which would hang if the thread were lost.
  def poisoned(input = {}, timeout: 5, **settings, &body)
    stub_const("Poison", Class.new(TaskerCore::StepHandler) { define_method(:call, &body) })
    task = workflow(timeout: timeout).create!(**input)
    with_worker(threads: 1, **settings) do
      task.wait(timeout: 120)
      expect(Diamond.create!(n: 2).wait(timeout: 120).state).to eq "complete"
    end
    task
  end

  def workflow(timeout: 5, **options)
    @workflow ||= Class.new(TaskerCore::Workflow) do
      workflow_name "poison"
      step :only, handler: "Poison", retryable: false, timeout: timeout, **options
    end
  end

  def error_of(task)
    expect([task.state, *task.steps.map { [_1.state, _1.attempts] }]).to eq ["error", ["error", 1]]
    task.steps.first.error
  end

  describe "in a result" do
    deep = ->(depth) { depth.times.inject({}) { |inner, _| { in: inner } } }
    {
      "a null character in a value" => [-> { { lines: [{ note: "a\0b" }] } },
                                        /the result has a null character \(\\u0000\) at byte/],
      "a null character in a name" => [-> { { "a\0b" => 1 } }, /the result has a null character/],
      "fifty megabytes" => [-> { { text: "x" * 50_000_000 } },
                            /the result has 50000011 bytes of JSON, and limits.payload_bytes is 1048576: store/],
      "a hundred thousand levels" => [-> { deep.call(100_000) },
                                      /cannot be written as JSON: result.*: nested too deeply or inside itself/],
      "a hundred and one levels" => [-> { deep.call(100) },
                                     /the result is nested more than 100 levels deep \(limits.payload_depth\)/],
      "itself" => [-> { {}.tap { _1[:self] = _1 } }, /nested too deeply or inside itself/],
      "a list in itself" => [-> { { list: [].tap { _1 << _1 } } }, /nested too deeply or inside itself/],
      "an object in itself" => [-> { { round: OddObjects::Round.new } }, /stack level too deep|nested too deeply/],
      "an object without a form" => [-> { { list: [Object.new] } },
                                     /result.list\[0\]: Object has no JSON representation: pass its values/],
      "no number" => [-> { { n: Float::NAN } }, /cannot be written as JSON: .*NaN/],
      "infinity" => [-> { { n: [-Float::INFINITY] } }, /cannot be written as JSON: .*-Infinity/],
      "a number of too many digits" => [-> { { n: 10**131_072 } },
                                        /the result has a number of more than 131072 digits/],
      "broken UTF-8" => [-> { { text: "\xff" } }, /cannot be written as JSON: .*(UTF-8|utf-8)/],
      "binary" => [-> { { text: "\xff".b } }, /cannot be written as JSON/],
      "a name of broken UTF-8" => [-> { { "\xff" => 1 } }, /cannot be written as JSON/],
      "a BasicObject inside" => [-> { { object: BasicObject.new } },
                                 /cannot be written as JSON: result.object: a BasicObject has no JSON representation/],
      "something without end" => [-> { { numbers: (1..Float::INFINITY).lazy } }, /the time limit of 0.5 s has passed/,
                                  { timeout: 0.5 }]
    }.each do |what, (result, message, options)|
      it "fails the step if the result has #{what}" do
        expect(error_of(poisoned(**(options || {})) { |_| result.call })["message"]).to match message
      end
    end

    {
      "text" => [-> { "no" }, /Poison returned "no" \(String\): a handler returns a Hash or nil/],
      "an array" => [-> { [1] }, /Poison returned \[1\] \(Array\)/],
      "a BasicObject" => [-> { BasicObject.new }, /Poison returned something that cannot be shown/],
      "what raises when it is inspected" => [-> { Class.new { def inspect = raise("no") }.new },
                                             /something that cannot be shown \(RuntimeError\)/]
    }.each do |what, (result, message)|
      it "fails the step if the result is #{what}" do
        expect(error_of(poisoned { |_| result.call })).to include("message" => message, "code" => "invalid_result")
      end
    end

    it "ignores an object's own way of writing itself" do
      list = Class.new(Array) { def map = raise("no") }.new([1])
      task = poisoned do |_|
        OddObjects::Liar.new.merge!("list" => list, OddObjects::Word.new("word") => OddObjects::Word.new("x"))
      end
      expect(task.results["only"]).to eq("list" => [1], "word" => "x")
    end

    it "is stored up to the configured limit and read by the child" do
      stub_const("Large", Class.new(TaskerCore::StepHandler) { def call(_context) = { text: "x" * 20_000_000 } })
      stub_const(
        "Reader",
        Class.new(TaskerCore::StepHandler) { def call(context) = { size: context.results["large"]["text"].size } }
      )
      large = Class.new(TaskerCore::Workflow) do
        workflow_name "large"
        step :large, handler: "Large"
        step :reader, depends_on: :large, handler: "Reader"
      end
      task = large.create!
      # Reading it may take a busy machine as long as the dummy's processes may be silent.
      with_worker(limits: { payload_bytes: 128 * 1024 * 1024 }, leases: { process_timeout: 20 }) do
        task.wait(timeout: 120)
      end
      expect(outline(task)).to eq [["large", "complete", 1], ["reader", "complete", 1]]
      expect(task.results["reader"]).to eq("size" => 20_000_000)
    end
  end

  describe "raised" do
    {
      "an exception whose message raises" => [-> { raise Class.new(StandardError) { def message = raise("no") } },
                                              "StandardError", /cannot be shown: RuntimeError/],
      "an exception whose message is no text" => [-> { raise Class.new(StandardError) { def message = 42 } },
                                                  "StandardError", /\A42\z/],
      "a message of fifty megabytes" => [-> { raise "x" * 50_000_000 }, "RuntimeError", /\Ax{10000}…\z/],
      "a message of odd bytes" => [-> { raise "a\0b\xff" }, "RuntimeError", /\Aab\u{fffd}\z/],
      "a frozen exception" => [-> { raise RuntimeError.new("cold").freeze }, "FrozenError|RuntimeError", /cold|frozen/],
      "an exception without a name" => [-> { raise Class.new(ArgumentError), "who" }, "ArgumentError", /\Awho\z/],
      "an exception whose class modules were put before" => [
        -> { raise Class.new(KeyError) { prepend Comparable }, "who" }, "KeyError", /\Awho\z/
      ],
      "the name of a method that is not there" => [-> { 7.no_such_method },
                                                   "NoMethodError", /\Aundefined method [`']no_such_method'/],
      "an exception whose class has an odd name" => [
        -> { raise Class.new(StandardError) { def self.name = 42 }, "who" }, "42", /\Awho\z/
      ],
      "an exception whose backtrace is none" => [
        -> { raise Class.new(StandardError) { def backtrace = raise("no") }, "who" }, "StandardError", /\Awho\z/
      ],
      "a code of odd bytes" => [-> { raise TaskerCore::PermanentError.new("who", code: "a\0b\xff") },
                                "TaskerCore::PermanentError", /\Awho\z/],
      "a delay that is none" => [-> { raise TaskerCore::RetryableError.new("who", retry_after: "soon") },
                                 "TaskerCore::RetryableError",
                                 /\Awho \(retry_after: "soon" \(String\) is not a number/],
      "a delay without end" => [-> { raise TaskerCore::RetryableError.new("who", retry_after: Float::INFINITY) },
                                "TaskerCore::RetryableError", /\Awho \(retry_after: Infinity/],
      "NoMemoryError" => [-> { raise NoMemoryError }, "NoMemoryError", /NoMemoryError/],
      "a signal" => [-> { raise SignalException, "TERM" }, "SignalException", /SIGTERM/],
      "an interrupt" => [-> { raise Interrupt }, "Interrupt", /Interrupt/],
      "a bare Exception" => [-> { raise Exception, "who" }, # rubocop:disable Lint/RaiseException
                             "Exception", /\Awho\z/],
      "a SecurityError" => [-> { raise SecurityError, "who" }, "SecurityError", /\Awho\z/],
      "an exit" => [-> { exit 3 }, "SystemExit", /exit/],
      "an abort" => [-> { abort }, "SystemExit", /exit/],
      "a throw" => [-> { throw :x }, "UncaughtThrowError", /uncaught throw :x/],
      "a stack without end" => [-> { (deep = -> { deep.call }).call }, "SystemStackError", /stack level too deep/],
      "something into its own thread" => [-> { Thread.current.raise(Exception, "who") }, "Exception", /\Awho\z/],
      "something about a stopped worker" => [-> { raise TaskerCore::StoppedError, "who" }, "TaskerCore::StoppedError",
                                             /\Awho\z/],
      "the time limit of its own" => [-> { Timeout.timeout(0.01) { sleep } }, "Timeout::Error", /execution expired/]
    }.each do |what, (body, name, message)|
      it "#{what} fails the step" do
        expect(error_of(poisoned { |_| body.call })).to include("class" => /\A(#{name})\z/, "message" => message)
      end
    end
  end

  describe "to the worker's thread" do
    { "killed" => -> { Thread.current.kill }, "exited" => -> { Thread.exit },
      "killed from elsewhere" => -> { Thread.current.then { |own| Thread.new { own.kill }.join && sleep } } }
      .each do |what, body|
      it "is survived: the thread was #{what}" do
        expect(error_of(poisoned { |_| body.call })["message"]).to eq "the thread of the handler was killed"
      end
    end

    it "is survived: an exception arrived after the handler's end" do
      sent = Queue.new
      waits = ->(thread) { eventually { thread.status == "sleep" } }
      task = poisoned do |_|
        own = Thread.current
        Thread.new { sent << own.raise(Exception, "late") if waits.call(own) }
        {}
      end
      Timeout.timeout(120) { sent.pop }
      expect(task.state).to eq "complete"
    end

    it "is survived: every thread of the worker was killed" do
      stub_const("Poison", Class.new(TaskerCore::StepHandler) do
        def call(_context) = Thread.list.select { |thread| thread.name.to_s.match?(/\Atasker-\d/) }.each(&:kill)
      end)
      task = workflow.create!
      with_worker(threads: 3) do
        error_of(task.wait(timeout: 120))
        expect(Array.new(20) { Diamond.create!(n: 2) }.map { _1.wait(timeout: 120).state }).to all(eq "complete")
      end
    end

    it "is survived: a thread of the handler raised" do
      task = poisoned do |_|
        thread = Thread.new { (Thread.current.report_on_exception = false) || raise("no") }
        { joined: thread.join.nil? }
      end
      expect(error_of(task)["message"]).to eq "no"
      @workflow = nil
      expect(poisoned { |_| Thread.new { (Thread.current.report_on_exception = false) || raise("no") } && {} }.state)
        .to eq "complete"
    end

    it "is survived: the handler rescued its time limit" do
      task = poisoned(timeout: 0.1) do |_|
        sleep
      rescue TaskerCore::TimeoutError
        { late: true }
      end
      expect(task.results["only"]).to eq("late" => true)
    end

    it "ends the thread of a handler after leases.deadline_grace" do
      took = elapsed do
        poisoned({}, timeout: 0.1, leases: { deadline_grace: "100ms" }) do |_|
          sleep
        rescue Exception # rubocop:disable Lint/RescueException
          retry
        end
      end
      expect(took).to be < 100
    end

    it "is survived: the handler rescues everything and never ends" do
      task = poisoned({}, timeout: 0.1, leases: { deadline_grace: "200ms" }) do |_|
        sleep
      rescue Exception # rubocop:disable Lint/RescueException
        retry
      end
      expect(error_of(task)).to include("message" => /time limit|lease ended|killed/)
    end
  end

  describe "that kills its process at every attempt" do
    def lost(kinds)
      tasks = kinds.map { |kind| Killer.create!(kind: kind) }
      innocent = Diamond.create_all!(Array.new(30) { { n: 2 } })
      with_worker_processes(processes: 2) { (tasks + innocent).each { |task| task.wait(timeout: 120) } }
      expect(innocent.map(&:state)).to all(eq "complete")
      tasks
    end

    it "fails after lost attempts and leaves other tasks unharmed" do
      lost(["exit!", "kill"]).each do |task|
        expect([task.state, task.execution_status]).to eq %w[error blocked_by_failures]
        expect(task.attempts.map { [_1.attempt, _1.outcome] }).to eq [[1, "lost"], [2, "lost"], [3, "lost"]]
        expect(task.steps.first.error)
          .to include("class" => "TaskerCore::LostAttempt", "message" => /\Aprocess \d+ died/)
      end
    end
  end

  it "that ends its process properly fails after its attempts" do
    tasks = ["main thread", "abort"].map { |kind| Killer.create!(kind: kind) }
    with_worker_processes(processes: 2) { tasks.each { |task| task.wait(timeout: 120) } }
    tasks.each do |task|
      expect(task.state).to eq "error"
      expect(task.attempts.map { [_1.attempt, _1.outcome] })
        .to match((1..3).map { |attempt| [attempt, be_in(%w[failed lost])] })
      expect(task.attempts.map { _1.error["message"] })
        .to all match(/the thread of the handler was killed|exit|process \d+ died/)
    end
  end

  it "that forks finishes once, in the parent" do
    task = Killer.create!(kind: "fork")
    with_worker_processes(processes: 1) { expect(task.wait(timeout: 120).state).to eq "complete" }
    expect(task.results["only"]).to eq("forked" => false)
  end

  it "that closes the process's output fails its step only" do
    task = Killer.create!(kind: "output")
    with_worker_processes(processes: 1) do
      expect(task.wait(timeout: 120).state).to eq "error"
      expect(Diamond.create!(n: 2).wait(timeout: 120).state).to eq "complete"
    end
    expect(task.attempts.map(&:outcome)).to eq %w[failed failed failed]
    expect(task.steps.first.error["message"]).to match(/no stream is left|closed stream/)
  end
end
