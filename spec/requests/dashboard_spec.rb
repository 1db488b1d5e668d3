# frozen_string_literal: true

# Pages of the mounted engine, for states that workers and operators produced.
RSpec.describe "The dashboard" do
  let(:connection) { ActiveRecord::Base.connection }
  let(:failed) do
    Repairable.create!.tap { |task| with_worker { task.wait(timeout: 120) } }
  end
  let(:blocked) do
    Three.create!.tap { |task| with_worker { eventually { task.steps.map(&:state) == %w[complete error waiting] } } }
  end

  def page = Nokogiri::HTML5(response.body)

  def text = page.at("main").text.squish

  def visit(path, **options)
    get "/tasker#{path}", **options
    page
  end

  # Follows a link to a form, fills it in and sends it.
  def submit(path, **fields)
    form = visit(path).at("main form[method=post]")
    token = form.at("input[name=authenticity_token]")["value"]
    post form["action"], params: { authenticity_token: token, **fields }
    page
  end

  def table(label) = page.at("[role=region][aria-label='#{label}'] table")

  def cells(label) = table(label).css("tbody tr").map { |row| row.css("th, td").map { _1.text.squish } }

  def buttons = page.css("main .actions .button").map(&:text)

  def process(queues: ["*"], timeout: 60)
    entry = { name: "worker-0", hostname: "box", pid: 12, queues: queues, heartbeat_timeout_ms: timeout * 1000,
              lease_grace_ms: 30_000 }
    connection.select_value("select tasker_core_v1.register_process('#{JSON.generate(entry)}')")
  end

  def claim(process) = connection.select_value("select tasker_core_v1.claim_steps(#{process}, '{*}', 100)::text")

  def workflow(name, &block)
    Class.new(TaskerCore::Workflow) do
      workflow_name name
      class_eval(&block)
    end
  end

  def statements(&)
    count = 0
    counter = ->(*, payload) { count += 1 if payload[:name] != "SCHEMA" }
    ActiveSupport::Notifications.subscribed(counter, "sql.active_record", &)
    count
  end

  def pages
    task = "/tasks/#{failed.uuid}"
    ["", "/tasks", task, "#{task}/graph", "#{task}/steps/second", "#{task}/cancel", "#{task}/steps/second/complete",
     "/workflows",
     "/workflows/#{failed.workflow_version_id}"]
  end

  describe "access" do
    it "is closed in production, and explains how to open it" do
      failed
      in_environment("production") do
        pages.each do |path|
          visit(path)
          expect([response.status, text]).to match [403, /The engine is closed.*TaskerCore.authenticate_with\(:token/]
          expect(page.at("nav")).to be_nil
        end
      end
    end

    it "requires the authentication of the application" do
      TaskerCore.authenticate_with(:basic, name: "ada", password: "secret")
      pages.each do |path|
        visit(path)
        expect([response.status, response.headers["WWW-Authenticate"]]).to match [401, /\ABasic realm="tasker_core"/]
        visit(path, headers: { "Authorization" => "Basic #{['ada:secret'].pack('m0')}" })
        expect(response.status).to eq 200
      end
    end

    it "is authorized for each page and action" do
      asked = []
      TaskerCore.authenticate_with { "ada" }
      TaskerCore.authorize_with { |*all| asked << all and all[2] == :dashboard }
      failed
      pages.first(5).each { |path| visit(path) and expect(response.status).to eq 200 }
      expect(asked)
        .to include(["ada", :show, :dashboard, nil], ["ada", :list, :dashboard, nil],
                    ["ada", :show, :dashboard, failed])
      visit("/tasks/#{failed.uuid}")
      expect(buttons).to eq []
      visit("/tasks/#{failed.uuid}/resolve")
      expect([response.status, text]).to match [403, /you may not resolve tasks/]
      post "/tasker/tasks/#{failed.uuid}/steps/second/retry", params: { reason: "x" }
      expect([response.status, asked.last]).to match [403, ["ada", :retry, :steps, have_attributes(name: "second")]]
      TaskerCore.authorize_with { false }
      pages.each { |path| visit(path) and expect(response.status).to eq 403 }
    end

    it "can be disabled by a setting" do
      failed
      with_settings(dashboard: { enabled: false })
      pages.each { |path| visit(path) and expect([response.status, text]).to match [404, /dashboard.enabled is false/] }
      get "/tasker/api/v1/tasks"
      expect(response.status).to eq 200
    end

    it "forbids caching, framing, sniffing and scripts" do
      pages.push("/tasks/7").each do |path|
        visit(path)
        expect(response.headers)
          .to include("Cache-Control" => "no-store", "X-Frame-Options" => "DENY", "X-Content-Type-Options" => "nosniff")
        expect(response.headers["Content-Security-Policy"])
          .to eq "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        expect(page.css("script, style, [style], [onclick], img, iframe")).to be_empty
      end
    end

    it "serves one cacheable style sheet with a digest in its path" do
      TaskerCore.authenticate_with(:token, "secret")
      path = visit("").at("link[rel=stylesheet]")["href"]
      get path
      expect([response.status, response.media_type]).to eq [200, "text/css"]
      expect(response.headers["Cache-Control"]).to match(/max-age=31536000/).and match(/immutable/).and match(/public/)
      expect(path).to include Digest::SHA256.hexdigest(response.body).first(16)
      get path.sub(/\h{16}/, "0" * 16)
      expect(response.status).to eq 404
      expect(response.headers["Cache-Control"]).to eq "no-store"
    end

    it "serves HTML whatever a request accepts" do
      ["application/json", "*/*", "image/png", "!!"].each do |type|
        visit("/tasks", headers: { "Accept" => type })
        expect([response.status, response.media_type]).to eq [200, "text/html"]
      end
      visit("/tasks?state=%FF")
      expect([response.status, response.media_type]).to eq [400, "text/html"]
    end

    it "reports what is missing, without internal details" do
      ["/tasks/7", "/tasks/#{SecureRandom.uuid}", "/tasks/#{failed.uuid}/steps/secnd", "/workflows/0"].each do |path|
        visit(path)
        expect([path, response.status]).to eq [path, 404]
      end
      expect(visit("/tasks/#{failed.uuid}/steps/secnd").at("main").text).to include "did you mean second?"
      without_database do
        visit("")
        expect([response.status, text]).to match [503, /database cannot be used.*try again later/]
        expect(text).not_to include "127.0.0.1"
      end
    end
  end

  describe "accessibility" do
    it "has landmarks, headings, and names for tables and fields" do
      blocked
      (pages + ["/tasks/#{blocked.uuid}"]).each do |path|
        visit(path)
        expect(page.at("html")["lang"]).to eq "en"
        expect(page.at("meta[name=viewport]")["content"]).to include "width=device-width"
        expect([page.css("main").size, page.css("h1").size, page.css("header nav[aria-label]").size]).to eq [1, 1, 1]
        expect(page.at("a.skip")["href"]).to eq "#main"
        expect(page.at("title").text).to match(/.+ · Tasker/)
        page.css("table").map(&:parent).each do |region|
          expect([region["role"], region["aria-label"], region["tabindex"]]).to match ["region", /./, "0"]
        end
        expect(page.css("thead th").map { _1["scope"] }.uniq - ["col"]).to eq []
        expect(page.css("tbody th").map { _1["scope"] }.uniq - ["row"]).to eq []
        page.css("input:not([type=hidden]), textarea").each do |field|
          expect(field.ancestors("label").any? || page.at("label[for='#{field['id']}']")).to be_truthy
        end
        ids = page.css("[id]").map { _1["id"] }
        expect(ids).to eq ids.uniq
        expect(page.css("section").map { page.at("##{_1['aria-labelledby']}")&.name }.uniq - ["h2"]).to eq []
      end
    end

    it "has readable contrast on light and dark pages" do
      luminance = lambda do |colour|
        shares = colour.scan(/\h{2}/).map { |part| part.hex / 255.0 }
        red, green, blue = shares.map { |part| part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055)**2.4 }
        (0.2126 * red) + (0.7152 * green) + (0.0722 * blue)
      end
      light, dark = TaskerCore::Dashboard::Stylesheet.text.scan(/:root \{(.*?)\}/m).map do |(part)|
        part.scan(/--([\w-]+): (#\h{6})/).to_h
      end
      expect(light.keys).to eq dark.keys
      grounds = %w[page ground raised]
      colours = %w[green red blue violet yellow grey]
      pairs = %w[ink quiet link red].product(grounds) + [%w[button-ink button]] +
              colours.flat_map { |colour| [[colour, "#{colour}-ground"], ["ink", "#{colour}-ground"]] }
      faint = [light, dark].flat_map do |palette|
        pairs.reject do |pair|
          lighter, darker = palette.values_at(*pair).map(&luminance).sort.reverse
          (lighter + 0.05) / (darker + 0.05) >= 4.5
        end
      end
      expect([pairs.size, faint]).to eq [25, []]
    end

    it "marks the current page" do
      { "" => "Overview", "/tasks" => "Tasks", "/workflows" => "Workflows" }.each do |path, name|
        expect(visit(path).css("nav [aria-current=page]").map(&:text)).to eq [name]
      end
    end
  end

  describe "overview" do
    it "reports missing workers and an empty system" do
      visit("")
      expect(text).to include("There is no live worker: ready steps do not run. Start a worker: tasker work",
                              "None. No task has ended with an error")
      expect(page.css(".stats dd:not(.note)").map(&:text)).to eq %w[0 0 0 0]
    end

    it "counts ready, running and waiting steps, and workers" do
      Line.create!(n: 2)
      claim(process)
      Diamond.create!(n: 2)
      Line.set(wait_until: 1.hour.from_now).create!(n: 2)
      visit("")
      expect(page.css(".stats > div").map { |one| one.text.squish })
        .to match [/\AReady 1 step, the oldest for/, "Running 1 step", /\AWaiting 1 step, the next at #{SHOWN_TIME}/,
                   "Workers 1 live process, 0 waiting for work"]
      expect(cells("Worker processes"))
        .to match [[/\Aworker-0 #\d+\z/, "box, pid 12", "all", "running 1 step", /ago/, /ago/]]
      expect(page.css(".warning")).to be_empty
    end

    it "warns about steps that wait for a repair" do
      Line.set(wait_until: 1.hour.from_now).create!(n: 2)
      connection.execute("update tasker_waiting_steps set reason = 'unreadable'")
      process
      expect(visit("").css(".warning").text.squish)
        .to eq "1 step cannot be read by the database and is set aside: tasks waiting for repair"
      visit(page.at(".warning a")["href"].delete_prefix("/tasker"))
      expect(cells("Tasks").first[2]).to include "waits for repair of damaged rows"
    end

    it "warns about unserved queues and silent workers" do
      Line.create!(n: 2)
      process(queues: ["payments"])
      expect(visit("").css(".warning").text.squish)
        .to eq "No live worker serves the queue default: 1 step is ready. Start a worker for it " \
               "(tasker work --queues default), or add it to the workers' execution.queues."
      silent = process(timeout: 0)
      expect(visit("").css(".warning").first.text).to include "1 worker is silent"
      expect(cells("Worker processes").last[3]).to eq "silent"
      connection.execute("select tasker_core_v1.deregister_process(#{silent})")
    end

    it "lists failed tasks and tasks blocked by a failure" do
      Line.create!(n: 2)
      [failed, blocked]
      visit("")
      expect(cells("Blocked tasks").map { _1.first(4) })
        .to match [[blocked.id.to_s, /\Athree/, /in progress blocked by failures/, "1 of 3, 1 failed"]]
      expect(cells("Tasks that ended with an error").map { _1.first(4) })
        .to match [[failed.id.to_s, /\Arepairable/, /error/, "1 of 3, 1 failed"]]
      expect(table("Blocked tasks").at("a")["href"]).to eq "/tasker/tasks/#{blocked.uuid}"
    end

    it "lists failing durable subscriptions with their errors" do
      subscriptions = JSON.generate([{ name: "ledger", events: %w[task.completed] },
                                     { name: "well", events: %w[task.failed] }])
      connection.execute("select tasker_core_v1.register_subscriptions('#{subscriptions}')")
      connection.execute("update tasker_subscriptions set failures = 3, last_error = '{\"class\": \"E\", " \
                         "\"message\": \"full\"}' where name = 'ledger'")
      visit("")
      expect(cells("Failing durable subscriptions")).to eq [["ledger", "0", "3", "E: full"]]
      expect(text).to include "tasker subscriptions skip NAME"
    end
  end

  describe "list of tasks" do
    it "explains an empty list" do
      expect(visit("/tasks").at(".empty").text.squish).to include "There are no tasks yet", "bundle exec tasker work"
      Line.create!(n: 2)
      expect(visit("/tasks?workflow=linne").at(".empty").text).to include "No task matches these filters"
      expect(visit("/tasks?after=00000000-0000-7000-8000-000000000000").at(".empty").text)
        .to include "There are no older tasks"
    end

    it "pages from the newest, and keeps the filters" do
      tasks = Line.create_all!(Array.new(5) { { n: 2 } })
      Three.create!
      with_settings(dashboard: { page_size: 2 })
      listed = []
      path = "/tasks?workflow=line&tags="
      while path
        visit(path)
        listed << cells("Tasks").map { _1.first.to_i }
        path = page.at("a[rel=next]")&.[]("href")&.delete_prefix("/tasker")
      end
      expect(listed).to eq tasks.sort_by(&:uuid).reverse.map(&:id).each_slice(2).to_a
      expect(page.at(".pages a")["href"]).to eq "/tasker/tasks?workflow=line"
    end

    it "filters by each form field and shows the values again" do
      task = Line.set(tags: %w[red blue], correlation_id: "0190163d-8694-739b-aea5-966c26f8ad91").create!(n: 5)
      other = Three.set(tags: ["red"]).create!
      found = lambda do |**fields|
        visit("/tasks?#{fields.to_query}")
        table("Tasks") ? cells("Tasks").map { _1.first.to_i } : []
      end
      expect(found.call).to eq [other.id, task.id]
      filters = { workflow: "line", tags: "red, blue", correlation_id: task.correlation_id, input: '{"n": 5}',
                  version: Line.version }
      filters.each do |field, value|
        expect([field, found.call(field => value)]).to match [field, field == :version ? include(task.id) : [task.id]]
        expect(page.at("input[name=#{field}]")["value"]).to eq value
      end
      expect(found.call(namespace: "elsewhere")).to eq []
      expect(found.call(since: "1h").size).to eq 2
      expect(found.call(until: "1h")).to eq []
      expect(found.call(state: ["complete"])).to eq []
      expect(found.call(state: %w[pending error]).size).to eq 2
      expect(page.css("input[type=checkbox][checked]").map { _1["value"] }).to eq %w[pending error]
    end

    it "names an invalid field and the reason" do
      { since: "yesterday", input: "[1]", correlation_id: "x", state: ["eror"], workflow: { a: 1 },
        after: "7" }.each do |field, value|
        visit("/tasks?#{{ field => value }.to_query}")
        expect([response.status, page.at("[role=alert]").text]).to match [400, /\A#{field}: .*must be/]
      end
      visit("/tasks?stat=error")
      expect([response.status, page.at("[role=alert]").text])
        .to eq [400, 'stat: "error" (String) is an unknown filter: did you mean state?']
      visit("/tasks?input=%7B")
      expect(page.at("[role=alert]").text).to include 'must be a JSON object such as {"order_id": 42}'
    end

    it "needs no more statements for many tasks than for one" do
      Line.create!(n: 2)
      visit("/tasks")
      one = statements { visit("/tasks") }
      Line.create_all!(Array.new(30) { { n: 2 } })
      Three.create!
      many = statements { visit("/tasks") }
      expect(cells("Tasks").size).to eq 32
      expect([one, many]).to match [be <= 5, one]
    end
  end

  describe "task page" do
    it "shows state, reasons and remedies" do
      visit("/tasks/#{failed.uuid}")
      expect(page.at("h1").text.squish).to eq "Task #{failed.id} ✘ error"
      expect(page.css(".reasons li p").first.text)
        .to include "second failed permanently in attempt 2 of 2 with RuntimeError: broken"
      expect(page.css(".remedy code").map(&:text)).to include "tasker retry #{failed.id} second --reason TEXT"
      expect(buttons).to eq ["Retry steps", "Mark the task as resolved"]
      expect(visit("/tasks/#{failed.id}").at("h1").text).to include failed.id.to_s
    end

    it "draws the graph with a link for each step" do
      visit("/tasks/#{failed.uuid}")
      links = page.css("svg a")
      expect(links.map { _1["href"] }).to eq(%w[first second third].map { "/tasker/tasks/#{failed.uuid}/steps/#{_1}" })
      get links[1]["href"]
      expect(page.at("h1").text.squish).to eq "second ✘ error"
    end

    it "lists steps with attempts, results and folded backtraces" do
      visit("/tasks/#{failed.uuid}")
      expect(cells("Steps of task #{failed.id}").map { _1.first(3) })
        .to eq [["first", "✔ complete", "1 of 3"], ["second after first", "✘ error", "2 of 2"],
                ["third after second", "· pending", "0 of 3"]]
      expect(page.at("#step-0 details pre").text).to eq "{}"
      expect(page.at("#step-1 .failure").text).to eq "RuntimeError: broken"
      expect(page.at("#step-1 details pre").text).to include "repairable.rb"
    end

    it "filters inputs and results by filter_parameters" do
      task = Relay.create!(card: "4000-0000")
      task.step(task.steps.first.name).complete!({ card: "4000-0001", paid: true }, reason: "known", by: "ada")
      [["/tasks/#{task.uuid}"], ["/tasks/#{task.uuid}/steps/#{task.steps.first.name}"]].flatten.each do |path|
        visit(path)
        expect(response.body).not_to include "4000-000"
        expect(page.css("pre").text).to include '"card": "[FILTERED]"', '"paid": true'
      end
    end

    it "links to a large result and cuts a very long one" do
      task = Line.create!(n: 2)
      # Its stored size may be small.
      task.step("a").complete!({ text: "x" * 100_000 }, reason: "large", by: "ada")
      visit("/tasks/#{task.uuid}")
      link = page.at("#step-0 td a")
      expect([link["aria-label"], response.body.size]).to match ["Result of a", be < 40_000]
      get link["href"]
      expect(page.at("pre").text).to match(/… \(\d+ characters in total\)\z/)
      expect(page.at("pre").text.size).to be <= 50_000
    end

    it "loads no input or result that is too long for a page" do
      task = Forked.create!(failing: ["x" * 10_000])
      task.step("a").complete!({ text: "x" * 9_000 }, reason: "large", by: "ada")
      expect([10_016, 10_017].map { |bytes| TaskerCore::TaskInput.up_to(bytes).find(task.id).input&.keys })
        .to eq [nil, %w[failing]]
      stub_const("TaskerCore::Dashboard::PageHelper::LONGEST_PAYLOAD", 9_011)
      visit("/tasks/#{task.uuid}")
      expect(page.at("#input + *").text.squish)
        .to end_with "Its 10,017 bytes are too many for a page: tasker show #{task.id} --results prints it."
      visit("/tasks/#{task.uuid}/steps/a")
      expect(page.at("#result + *").text)
        .to eq "Its 9,012 bytes are too many for a page: tasker show #{task.id} a --results prints it."
      stub_const("TaskerCore::Dashboard::PageHelper::LONGEST_PAYLOAD", 9_012)
      visit("/tasks/#{task.uuid}/steps/a")
      expect(page.at("#result + pre").text).to include "x" * 9_000
    end

    it "pages a task of 2,000 steps without extra statements" do
      crowd = workflow("crowd_of_steps") { 2000.times { |number| step "s#{number}", handler: "Square" } }
      task = crowd.create!
      small = Line.create!(n: 2)
      visit("/tasks/#{small.uuid}")
      few = statements { visit("/tasks/#{small.uuid}") }
      many = statements { visit("/tasks/#{task.uuid}") }
      expect([few, many]).to match [be <= 14, be <= few]
      expect(page.at("svg")).to be_nil
      expect(cells("Steps of task #{task.id}").size).to eq 50
      get page.at("a[rel=next]")["href"]
      expect(page.css("tr[id]").map { _1["id"] }).to eq((50...100).map { "step-#{_1}" })
      visit("/tasks/#{task.uuid}/graph")
      expect(page.css("svg a").size).to eq 2000
    end

    it "pages the attempts of a step" do
      with_settings(dashboard: { page_size: 1 })
      visit("/tasks/#{failed.uuid}/steps/second")
      expect(cells("Attempts of second").map { _1.first(2) }).to eq [%w[2 failed]]
      get page.at("a[rel=next]")["href"]
      expect(cells("Attempts of second").map { _1.first(2) }).to eq [%w[1 failed]]
      %w[x -1 9223372036854775808].each do |before|
        visit("/tasks/#{failed.uuid}/steps/second?before=#{before}")
        expect([response.status, text]).to match [400, /before: .* must be a number/]
      end
      expect(page.at("a[rel=next]")).to be_nil
    end
  end

  describe "of unended work" do
    def refresh = page.at("meta[http-equiv=refresh]")&.[]("content")

    it "reloads at the configured interval until the work has ended" do
      task = Line.create!(n: 2)
      ["", "/tasks", "/tasks/#{task.uuid}", "/tasks/#{task.uuid}/steps/a"].each do |path|
        visit(path) and expect(refresh).to start_with "5;"
      end
      with_settings(dashboard: { refresh_interval: "300ms" })
      visit("/tasks")
      expect(refresh).to eq "1;url=?"
      task.cancel!(reason: "no", by: "ada")
      ["/tasks", "/tasks/#{task.uuid}", "/tasks/#{task.uuid}/steps/a", "/workflows"].each do |path|
        visit(path) and expect(refresh).to be_nil
      end
    end

    it "does not reload with a form, when disabled or stopped" do
      task = Line.create!(n: 2)
      visit("/tasks/#{task.uuid}/cancel")
      expect(refresh).to be_nil
      visit("/tasks?workflow=line")
      expect(refresh).to eq "5;url=?workflow=line"
      stop = page.at("footer a")["href"]
      visit("/tasks#{stop}")
      expect([refresh, page.at("footer a")["href"]]).to eq [nil, "?workflow=line"]
      with_settings(dashboard: { refresh_interval: "0s" })
      visit("/tasks")
      expect([refresh, page.at("footer a")]).to eq [nil, nil]
    end
  end

  describe "action form" do
    it "cancels a task and shows who did it and why" do
      TaskerCore.authenticate_with { "ada" }
      task = Line.create!(n: 2)
      expect(visit("/tasks/#{task.uuid}").css(".button").map { [_1.text, _1["href"]] })
        .to eq [["Cancel the task", "/tasker/tasks/#{task.uuid}/cancel"]]
      submit("/tasks/#{task.uuid}/cancel", reason: "wrong address")
      expect(response.status).to eq 303
      follow_redirect!
      expect(page.at("[role=status]").text.squish).to eq "ada cancelled the task. Reason: wrong address"
      expect(cells("Operator actions").map { _1.drop(1) }).to eq [["ada", "cancelled the task", "–", "wrong address"]]
      expect([task.state, task.events.map { [_1.action, _1.actor, _1.reason] }])
        .to eq ["cancelled", [["cancel", "ada", "wrong address"]]]
    end

    it "performs each other operator action" do
      submit("/tasks/#{failed.uuid}/resolve", reason: "a")
      expect(failed.state).to eq "resolved_manually"
      submit("/tasks/#{blocked.uuid}/steps/patient/retry", reason: "b")
      submit("/tasks/#{blocked.uuid}/steps/hopeless/retry", reason: "c")
      expect(blocked.steps.map(&:state)).to eq %w[complete ready ready]
      claim(process)
      submit("/tasks/#{blocked.uuid}/steps/patient/release", reason: "d")
      expect(blocked.step("patient").state).to eq "ready"
      submit("/tasks/#{blocked.uuid}/steps/patient/complete", reason: "e", result: '{"paid": 12345678901234567890}')
      submit("/tasks/#{blocked.uuid}/steps/patient/update_result", reason: "f", result: '{"paid": 7}')
      expect(blocked.results).to include("patient" => { "paid" => 7 })
      submit("/tasks/#{Line.create!(n: 1).uuid}/steps/a/resolve", reason: "g")
      expect(TaskerCore::TaskEvent.order(:id).map { [_1.actor, _1.reason] }).to eq(("a".."g").map { ["dashboard", _1] })
    end

    it "requeues failed steps with all their attempts" do
      submit("/tasks/#{failed.uuid}/retry", reason: "repaired")
      follow_redirect!
      expect(page.at("[role=status]").text).to include "retried the task"
      expect(failed.steps.map(&:state)).to eq %w[complete ready pending]
    end

    it "offers the actions that a step's state allows" do
      offered = ->(task, step) { visit("/tasks/#{task.uuid}/steps/#{step}") and buttons }
      expect(offered.call(blocked, "well")).to eq ["Replace the result"]
      expect(offered.call(blocked, "hopeless")).to eq ["Retry", "Mark as resolved", "Complete with a result"]
      expect(offered.call(blocked, "patient")).to eq ["Retry", "Mark as resolved", "Complete with a result"]
      task = Line.create!(n: 2)
      expect(offered.call(task, "b")).to eq ["Mark as resolved", "Complete with a result"]
      claim(process)
      expect(offered.call(task, "a")).to eq ["Release from its worker"]
    end

    it "explains a rejected action and keeps the entered values" do
      submit("/tasks/#{failed.uuid}/cancel", reason: "too late")
      expect([response.status, page.at("[role=alert]").text])
        .to match [409, /only a task that has not ended can be cancelled/]
      expect(page.at("input[name=reason]")["value"]).to eq "too late"
      submit("/tasks/#{failed.uuid}/resolve", reason: " ")
      expect([response.status, page.at("[role=alert]").text]).to match [422, /reason: is blank: give the reason/]
      ["{", "[]", "3", "{\"a\": NaN}", "[" * 500].each do |result|
        submit("/tasks/#{failed.uuid}/steps/second/complete", reason: "x", result: result)
        expect([response.status, page.at("[role=alert]").text])
          .to match [422, /result: .* must be a JSON object such as/]
        expect(page.at("textarea").text.strip).to eq result
      end
      expect([failed.state, failed.events.count]).to eq ["error", 0]
    end

    it "is rejected without a token, whatever the host's protection" do
      before = ActionController::Base.allow_forgery_protection
      ActionController::Base.allow_forgery_protection = false
      task = Line.create!(n: 2)
      visit("/tasks/#{task.uuid}/cancel")
      [{}, { authenticity_token: "guessed" }].each do |token|
        post "/tasker/tasks/#{task.uuid}/cancel", params: { reason: "x", **token }
        expect([response.status, text]).to match [400, /the form has expired or comes from another site/]
      end
      token = visit("/tasks/#{task.uuid}/cancel").at("input[name=authenticity_token]")["value"]
      post "/tasker/tasks/#{task.uuid}/cancel", params: { reason: "x", authenticity_token: token },
                                                headers: { "Origin" => "https://elsewhere.example" }
      expect(response.status).to eq 400
      expect(task.state).to eq "pending"
    ensure
      ActionController::Base.allow_forgery_protection = before
    end

    it "filters results and the application's parameters in logs" do
      task = Line.create!(n: 2)
      logged = []
      ActiveSupport::Notifications.subscribed(->(*, payload) { logged << payload[:params] },
                                              "process_action.action_controller") do
        submit("/tasks/#{task.uuid}/steps/a/complete", reason: "x", result: '{"card": "4000"}', card: "4001")
      end
      expect(task.results).to eq("a" => { "card" => "4000" })
      expect(logged.last).to include("result" => "[FILTERED]", "reason" => "x", "card" => "[FILTERED]")
    end

    it "is disabled without a session, and explains why" do
      task = Line.create!(n: 2)
      environment = { "rack.errors" => $stderr, "SCRIPT_NAME" => "/tasker" }
      without_session = ->(verb, path) { Rack::MockRequest.new(TaskerCore::Engine).request(verb, path, environment) }
      raw_response = without_session.call("GET", "/tasks/#{task.uuid}")
      expect([raw_response.status, Nokogiri::HTML5(raw_response.body).css(".button").size]).to eq [200, 0]
      expect(raw_response.body).to include "this application has no session"
      expect(without_session.call("GET", "/tasks/#{task.uuid}/cancel").status).to eq 400
      raw_response = without_session.call("POST", "/tasks/#{task.uuid}/cancel?reason=x")
      expect([raw_response.status, raw_response.body]).to match [400, /this application has no session/]
      expect(task.state).to eq "pending"
    end

    it "confirms only actions that were performed" do
      event = failed.tap { |task| task.resolve!(reason: "settled", by: "ada") }.events.last
      task = Line.create!(n: 2)
      expect(visit("/tasks/#{failed.uuid}?done=#{event.id}").at("[role=status]")).not_to be_nil
      [event.id, "9" * 30, "cancel"].each do |done|
        expect(visit("/tasks/#{task.uuid}?done=#{done}").at("[role=status]")).to be_nil
      end
    end
  end

  describe "workflows" do
    it "lists versions with their tasks of the last day" do
      failed
      Repairable.create!
      visit("/workflows")
      row = cells("Registered versions of workflows").find { _1.first.start_with?("default.repairable") }
      expect(row[1..5]).to eq %w[3 2 0 1 1]
      links = table("Registered versions of workflows").css("td a").map { _1["href"] }.grep(/repairable/)
      get links.last
      expect(cells("Tasks").map { _1.first.to_i }).to eq [failed.id]
    end

    it "pages" do
      [Line, Three, Diamond].each { |workflow| workflow.create!(n: 2) }
      with_settings(dashboard: { page_size: 1 })
      visit("/workflows")
      first = cells("Registered versions of workflows").map(&:first)
      get page.at("a[rel=next]")["href"]
      expect([first.size, cells("Registered versions of workflows").map(&:first) & first]).to eq [1, []]
    end

    it "limits the scan for statistics and shows their start" do
      tasks = Array.new(103) { |number| { n: number } }
      Line.create_all!(tasks.first(1))
      connection.execute("update tasker_tasks set created_at = created_at - interval '2 seconds', uuid = " \
                         "tasker_core_v1.uuid_v7_floor(created_at - interval '2 seconds')")
      Line.create_all!(tasks.drop(1))
      visit("/workflows")
      expect(text).to include "in the last 24 hours"
      with_settings(api: { scan_limit: 100 })
      visit("/workflows")
      expect(text).to include "since"
      expect(cells("Registered versions of workflows").find { _1.first.start_with?("default.line") }[2]).to eq "102"
    end

    it "draws the graph of a version" do
      task = Line.create!(n: 2)
      visit("/workflows/#{task.workflow_version_id}")
      expect(page.css("svg text").map(&:text)).to eq %w[a b c d]
      expect(page.at(".stats").text.squish).to include "Tasks10 complete, 0 failed, 0 cancelled, 1 unfinished"
    end
  end

  it "escapes all foreign text" do
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    evil = workflow("evil") { step :bad }
    evil.define_method(:bad) { |_context| raise TaskerCore::PermanentError.new(hostile, code: hostile) }
    task = stub_const("Evil", evil).set(tags: [hostile]).create!(note: hostile)
    with_worker { task.wait(timeout: 120) }
    done = Line.create!(n: 2)
    done.step("a").complete!({ hostile => hostile }, reason: hostile, by: hostile)
    event = done.events.last
    ["", "/tasks?#{{ tags: hostile, workflow: hostile, input: hostile, after: hostile }.to_query}",
     "/tasks?#{{ tags: [hostile] }.to_query}", "/tasks/#{task.uuid}", "/tasks/#{task.uuid}/steps/bad",
     "/tasks/#{done.uuid}?done=#{event.id}&refresh=#{ERB::Util.url_encode(hostile)}", "/tasks/#{done.uuid}/steps/a",
     "/tasks/#{ERB::Util.url_encode(hostile.delete('/'))}", "/workflows"].each do |path|
      visit(path)
      expect(response.body).not_to match(/<script|<img/)
      expect(page.css("script, img, [onerror]")).to be_empty
    end
    visit("/tasks/#{done.uuid}")
    expect(cells("Operator actions").first.values_at(1, 4)).to eq [hostile, hostile]
    submit("/tasks/#{done.uuid}/steps/b/complete", reason: hostile, result: hostile)
    expect([page.css("script, img").size, page.at("input[name=reason]")["value"]]).to eq [0, hostile]
  end
end
