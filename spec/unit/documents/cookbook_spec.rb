# frozen_string_literal: true

require "tasker_core/testing"

RSpec.describe "docs/cookbook.md" do
  include TaskerCore::Testing

  let(:document) { File.read("#{root}/docs/cookbook.md") }
  let(:sections) { document.split(/^## /).drop(1).to_h { |section| section.split("\n", 2) } }

  def blocks(title, language) = sections.fetch(title).scan(/^```#{language}\n(.*?)^```$/m).flatten

  # Evaluates the blocks in a transaction that is rolled back, and removes their classes.
  def running(*sources, &block)
    ActiveRecord::Base.transaction do
      evaluate(*sources, &block)
      raise ActiveRecord::Rollback
    end
  end

  def evaluate(*sources)
    sources.each { |source| TOPLEVEL_BINDING.eval(source) }
    yield
  ensure
    sources.join.scan(/^class (\w+)/).flatten.uniq.each { |name| Object.send(:remove_const, name) }
  end

  # Without a transaction, because a worker sees only committed tasks; unsubscribes the block's error subscriber.
  def with_error_subscriber(source, &block)
    subscribed = nil
    allow(Rails.error).to(
      receive(:subscribe).and_wrap_original { |subscribe, object| subscribe.call(subscribed = object) }
    )
    evaluate(source, &block)
  ensure
    Rails.error.unsubscribe(subscribed) if subscribed
  end

  it "has no Ruby block without an example here" do
    counts = sections.transform_values { |section| section.scan(/^```ruby$/).size }.reject { |_, count| count.zero? }
    expect(counts).to eq("Send failures to an error tracker" => 2, "Complete a step from a webhook" => 2,
                         "Turn a chain of jobs into a workflow" => 2)
  end

  it "links to existing documents and headings" do
    links = document.scan(/\]\(([\w.]*)#?([\w-]*)\)/)
    expect(links.size).to be > 5
    links.each do |file, heading|
      text = file.empty? ? document : File.read("#{root}/docs/#{file}")
      headings = text.scan(/^#+ (.*)/).flatten.map { |title| title.downcase.gsub(/[^\w\- ]/, "").tr(" ", "-") }
      expect(headings).to include(heading) unless heading.empty?
    end
  end

  describe "error tracker" do
    let(:notices) { [] }

    before do
      notices = self.notices
      stub_const(
        "Tracker",
        Class.new { define_singleton_method(:notify) { |*arguments, **facts| notices << [*arguments, facts] } }
      )
    end

    it "forwards only the gem's reports from Rails.error" do
      subscribed = nil
      allow(Rails.error).to receive(:subscribe) { |subscriber| subscribed = subscriber }
      running(blocks("Send failures to an error tracker", "ruby").first) do
        facts = { handled: false, severity: :error, context: { task_id: 1 } }
        subscribed.report(StandardError.new("elsewhere"), **facts, source: "application")
        subscribed.report(StandardError.new("ours"), **facts, source: "tasker_core")
      end
      expect(notices.map { |error, facts| [error.message, facts] })
        .to eq [["ours", { level: :error, handled: false, data: { task_id: 1 } }]]
    end

    it "forwards the failure of a step that a worker ran" do
      with_error_subscriber(blocks("Send failures to an error tracker", "ruby").first) do
        Announcing.create!
        with_worker { eventually { notices.any? } }
      end
      error, facts = notices.first
      expect([error.message, facts[:level], facts[:handled]]).to eq ["declined", :error, false]
      expect(facts[:data]).to include(workflow: "announcing", step: "pay")
    end

    it "names the failed step of a failed task" do
      running(blocks("Send failures to an error tracker", "ruby").last) do
        task = Announcing.create!
        perform_tasks
        facts = { "id" => "1", "name" => "task.failed", "occurred_at" => 0,
                  "payload" => { "task_id" => task.id, "workflow" => "announcing" } }
        FailedTasks.new.call(TaskerCore::Event.new(facts))
        expect(FailedTasks.durable_events).to eq ["task.failed"]
        expect(notices).to eq [["announcing failed in pay", { data: { task: task.id, error: "declined" } }]]
      ensure
        FailedTasks.unsubscribe
      end
    end
  end

  describe "webhook" do
    let(:payment) { { paid: false, amount: 4900 } }

    before do
      payment = self.payment
      stub_const("Bank", Class.new do
        define_singleton_method(:request) { |**facts| facts.fetch(:key) }
        define_singleton_method(:find) { |_| payment }
        define_singleton_method(:signed?) { |request| request.headers["X-Signature"] == "good" }
      end)
    end

    def notice(task, signature: "good")
      body = { task: task, amount: "4900", id: "n1" }.to_query
      environment = Rack::MockRequest.env_for("/payments", method: "POST", input: body, "HTTP_X_SIGNATURE" => signature,
                                                           "CONTENT_TYPE" => "application/x-www-form-urlencoded")
      PaymentsController.action(:create).call(environment).first
    end

    it "completes the waiting step once, and no other" do
      running(*blocks("Complete a step from a webhook", "ruby")) do
        task = Invoice.create!(order_id: 42)
        perform_tasks
        expect(task.step("await_payment")).to have_attributes(state: "waiting", waiting_reason: "retry")
        expect(notice(task.uuid, signature: "forged")).to eq 401
        expect(notice(SecureRandom.uuid)).to eq 404
        expect([notice(task.uuid), notice(task.uuid)]).to eq [204, 204]
        perform_tasks
        expect(task.results["ship"]).to eq("shipped_for" => 4900)
        expect(task.events.map { |event| [event.actor, event.reason] }).to eq [["bank", "notice n1"]]
      end
    end

    it "responds with an error while the step cannot be completed" do
      running(*blocks("Complete a step from a webhook", "ruby")) do
        task = Invoice.create!(order_id: 42)
        task.cancel!(reason: "wrong", by: "ada")
        expect(notice(task.uuid)).to eq 409
      end
    end

    it "continues without a notice when the step asks itself" do
      running(blocks("Complete a step from a webhook", "ruby").first) do
        task = Invoice.create!(order_id: 42)
        perform_tasks
        payment[:paid] = true
        perform_tasks(at: 11.minutes.from_now)
        expect(task.results["ship"]).to eq("shipped_for" => 4900)
        expect(task.step("await_payment").attempts).to eq 2
      end
    end
  end

  it "replaces a chain of jobs with an equivalent workflow" do
    notified = []
    stub_const("Importer", Class.new do
      define_singleton_method(:parse) { |upload| [upload, upload + 1] }
      define_singleton_method(:store, &:size)
      define_singleton_method(:notify) { |*facts| notified << facts }
    end)
    chain, workflow = blocks("Turn a chain of jobs into a workflow", "ruby")
    running(chain) do
      ParseJob.perform_now(7)
      StoreJob.perform_now(7, [7, 8])
      NotifyJob.perform_now(7, 2)
    end
    running(workflow) do
      tasks = Array.new(2) { ParseJob.perform_now(7) }
      perform_tasks
      expect(tasks.map(&:id).uniq.size).to eq 1
      expect(tasks.first.state).to eq "complete"
    end
    expect(notified).to eq [[7, 2], [7, 2]]
  end

  describe "deployment" do
    let(:help) { StringIO.new.tap { |out| TaskerCore::CLI.new(out: out, err: out).run(%w[help work]) }.string }
    let(:commands) { document.gsub('", "', " ").scan(%r{bin/tasker ([a-z]+[^"\]\n]*)}).flatten.map(&:split) }

    it "uses existing commands and options" do
      expect(commands.size).to be >= 5
      expect(commands.map(&:first)).to all(eq "work")
      expect(help.scan(/--\w+/)).to include(*commands.flatten.grep(/^--/).uniq)
    end

    it "gives a worker enough time to stop" do
      seconds = document.scan(/^(?:TimeoutStopSec=|\s*stop_grace_period: )(\d+)s?$/).flatten.map(&:to_i)
      expect(seconds.size).to eq 2
      expect(seconds).to all(be >= TaskerCore::Configuration.new[:execution, :shutdown_timeout] + 6)
    end

    it "installs build dependencies in the first stage only" do
      build, run = blocks("Deploy with Docker", "dockerfile").first.split(/^FROM /).drop(1)
      expect(build).to include("build-essential", "libpq-dev")
      expect(run).not_to match(/build-essential|libpq-dev/)
    end

    it "has valid YAML and a valid Procfile" do
      services = YAML.safe_load(blocks("Deploy with Docker", "yaml").first).fetch("services")
      expect(services.keys).to eq %w[migrate worker]
      expect(blocks("Deploy with a Procfile", "procfile").first.lines).to all(match(%r{\A\w+: bin/\w+ }))
    end
  end
end
