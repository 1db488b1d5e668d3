# frozen_string_literal: true

# The extension's entries: every method and function that Ruby can call.
RSpec.describe "Entries of the extension" do
  native = TaskerCore::Native

  # @return [Hash{String => Method, UnboundMethod}] by `Class#method`, `Class.method` and `function`
  def self.entries(native)
    modules = (native.constants - [:Trap]).map { |name| native.const_get(name) }.grep(Module)
    found = native.singleton_methods(false).to_h { |name| [name.to_s, native.method(name)] }
    modules.each do |type|
      short = type.name.delete_prefix("TaskerCore::Native::")
      type.singleton_methods(false).each { |name| found["#{short}.#{name}"] = type.method(name) }
      next unless type.is_a?(Class)

      type.instance_methods(false).each { |name| found["#{short}##{name}"] = type.instance_method(name) }
    end
    found
  end

  entries = entries(native)

  # Arguments of the types that each entry accepts; the trap panics before it uses any.
  def arguments(name, configuration, publisher)
    case name
    when "CompiledWorkflow.compile" then ["{}", configuration]
    when "EventPublisher.create" then [configuration]
    when "Orchestrator.start" then ["{}", configuration, publisher]
    when "EventPublisher#register" then ["a.b", true]
    when "EventPublisher#set_interests" then [[]]
    when "EventPublisher#verify_filter" then [[], []]
    when "EventPublisher#publish" then ["a.b", nil, "{}", true]
    when "Logs.offer" then [{ severity: 1, message: "text", correlation_id: "id" }]
    when "Logs.take" then [false]
    when "Orchestrator#ancestor_results" then [1, nil, nil]
    when "Logs.set_level", "Orchestrator#task_input", "Orchestrator#revoked?", "Orchestrator#task", "Task#step" then [1]
    when "Logs.wait", "Orchestrator#stop" then [0.0]
    when "Orchestrator#wait_for_progress" then [0, 0.0]
    else ["text"] * self.class.metadata[:entries].fetch(name).arity
    end
  end

  metadata[:entries] = entries

  it "are each listed once in ext/README.md" do
    table = File.read("#{root}/ext/README.md")[/^\| entry .*?(?=\n\n)/m]
    listed = table.lines.drop(2).flat_map do |line|
      type = nil
      line.split("|")[1].scan(/`([^`]+)`/).flatten.map do |name|
        type = name[/\A[A-Z]\w+/] || type
        name.match?(/\A[#.]/) ? "#{type}#{name}" : name
      end
    end
    expect(listed.sort).to eq entries.keys.sort
  end

  it "turn a panic into an InternalError" do
    trap = native.const_defined?(:Trap)
    skip "the extension is built without the trap: run `bundle exec rake compile:dev`" unless trap

    configuration = TaskerCore.config.native
    publisher = TaskerCore::Bridge.event_publisher(TaskerCore.config)
    orchestrator = TaskerCore::Bridge.start_orchestrator(database: TaskerCore::Postgres::Address.current,
                                                         configuration: TaskerCore.config, name: "entries")
    task = orchestrator.task(1)
    receivers = { "Configuration" => configuration, "EventPublisher" => publisher, "CompiledWorkflow" => Line.compiled,
                  "Orchestrator" => orchestrator, "Task" => task, "WorkflowStep" => task.step(0) }
    unguarded = entries.reject do |name, entry|
      entry = entry.bind(receivers.fetch(name[/\A\w+/])) if entry.is_a?(UnboundMethod)
      native::Trap.panic_next
      entry.call(*arguments(name, configuration, publisher))
      false
    rescue TaskerCore::InternalError => e
      e.message == "panic in the extension: a trap"
    end
    expect(unguarded.keys).to eq []
  ensure
    orchestrator&.stop(0.0)
  end
end
