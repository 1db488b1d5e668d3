# frozen_string_literal: true

# Text from outside reaches logs, terminals and pages without characters that are invisible or that move others.
RSpec.describe "Text from outside", type: :request do
  # They end a line, colour a terminal, clear it, change the text direction, hide, and mark.
  marks = "\e[31m\u009b2J\u202egnp\u2066\u200b\ufeff\u007f\r"
  invisible = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/

  let(:connection) { ActiveRecord::Base.connection }
  let(:text) { "forged\ntasker_core: all is well #{marks}" }
  let!(:task) do
    message = text
    handler = Class.new(TaskerCore::StepHandler) do
      define_method(:call) do |context|
        context.input["fail"] ? raise(TaskerCore::PermanentError.new(message, code: message)) : { said: message }
      end
    end
    stub_const("Foreign", handler)
    @workflow = Class.new(TaskerCore::Workflow) do
      workflow_name "foreign"
      step :first, handler: "Foreign"
    end
    @workflow.set(tags: [text], idempotency_key: text).create!(fail: true, note: text)
  end

  def tasker(*arguments)
    out = StringIO.new
    TaskerCore::CLI.new(out: out,
                        err: out).run([*arguments.map(&:to_s), "--require", "#{root}/spec/dummy/config/environment.rb"])
    out.string
  end

  def logged(format)
    out = StringIO.new
    logger = TaskerCore.logger
    TaskerCore.logger = ActiveSupport::Logger.new(out, formatter: (TaskerCore::JsonFormatter.new if format == :json))
    yield
    TaskerCore::Logging::Pump.flush
    out.string.force_encoding(Encoding::UTF_8)
  ensure
    TaskerCore.logger = logger
  end

  %i[human json].each do |format|
    it "is escaped in #{format} log lines, one line each" do
      lines = logged(format) do
        with_worker { task.wait(timeout: 120) }
        TaskerCore::Correlation.adopt(text)
        get "/tasker/api/v1/health/live", headers: { "X-Correlation-ID" => "h\u202e#{marks.delete("\r")}" }
        ActiveSupport::Notifications.instrument("listener_failed.tasker_core",
                                                event: Struct.new(:name).new(text), error: RuntimeError.new(text))
      end
      expect(lines)
        .to include("step failed permanently", "a correlation id was converted to a UUID", "a listener raised an error")
      expect(lines).not_to match invisible
      expect(lines.lines.grep(/\Atasker_core: all is well/)).to eq []
      errors = lines.lines.map { |line| JSON.parse(line)["error.message"] } if format == :json
      expect(errors).to include(text) if errors
    end
  end

  it "is escaped by every command that prints it" do
    with_worker { task.wait(timeout: 120) }
    step = task.step(:first)
    step.complete!({ text => text }, reason: text, by: text)
    subscriptions = JSON.generate([{ name: text, events: %w[task.completed] }])
    connection.execute("select tasker_core_v1.register_subscriptions(#{connection.quote(subscriptions)})")
    error = JSON.generate({ class: text, message: text })
    connection.execute("update tasker_subscriptions set failures = 1, retry_at = now(), last_error = " \
                       "#{connection.quote(error)}::jsonb")
    failed = @workflow.create!(fail: true)
    with_worker { failed.wait(timeout: 120) }
    printed = [%w[list], ["list", "--json"], ["show", task.id, "--results"], ["show", task.id, "first"],
               ["show", failed.id], ["show", failed.id, "first", "--json"],
               ["why", task.id], ["why", failed.id], ["graph", failed.id], ["graph", failed.id, "--format", "mermaid"],
               ["graph", failed.id, "--format", "svg"],
               %w[subscriptions], %w[subscriptions --json], ["show", text], ["graph", text], [text],
               ["list", "--state", text], %w[workflows], %w[doctor],
               ["retry", failed.id, "--reason", text, "--by", text],
               ["cancel", failed.id, "--reason", text, "--by", text],
               ["subscriptions", "drop", text]].to_h { |arguments| [arguments, tasker(*arguments)] }
    expect(printed.values).to all(be_present)
    expect(printed.select { |_, out| out.match?(invisible) }).to eq({})
    expect(printed.select { |_, out| out.match?(/^tasker_core: all is well/) }).to eq({})
    expect(printed.values.join).to include "\\u202egnp\\u2066\\u200b"
  end

  it "is escaped on every page, except in form fields" do
    with_worker { task.wait(timeout: 120) }
    failed = task
    task.step(:first).resolve!(reason: text, by: text)
    ["", "/tasks", "/tasks/#{failed.uuid}", "/tasks/#{failed.uuid}/graph", "/tasks/#{failed.uuid}/steps/first",
     "/tasks/#{failed.uuid}/steps/first/update_result",
     "/workflows", "/tasks/#{CGI.escape(text.tr("\n\r", '  '))}", "/tasks?state[]=#{CGI.escape(text)}"].each do |path|
      get "/tasker#{path}"
      expect(response.body.delete("\r")).not_to match(invisible), path
    end
    get "/tasker/tasks/#{failed.uuid}"
    expect(response.body).to include "\\u202egnp"
    get "/tasker/tasks?tags=#{CGI.escape(marks)}"
    expect(Nokogiri::HTML5(response.body).at("input[name=tags]")["value"]).to include "\u202egnp"
  end
end
