# frozen_string_literal: true

# Applications of `rails new`, generated, migrated and run with a user's commands.
RSpec.describe "Generated applications" do
  greet = 'p SampleGreeting.create!(name: "Ada").wait(timeout: 60).results["greet"]'
  greeted = "#{{ 'greeting' => 'Good morning, Ada!' }.inspect}\n" # as this Ruby prints it

  describe "an application with Minitest" do
    before(:context) do
      @application = GeneratedApplication.new("shop")
      @application.run("bin/rails", "g", "tasker_core:install")
      @application.run("bin/rails", "db:migrate")
    end

    after(:context) { @application.remove }

    it "is unchanged by a second installation" do
      before = @application.files
      @application.run("bin/rails", "g", "tasker_core:install")
      @application.run("bin/rails", "tasker_core:install:migrations")
      expect(@application.files).to eq before
      expect(before.keys.grep(%r{db/migrate}).size).to eq Dir["db/migrate/*.rb"].size
      expect(before.fetch("config/routes.rb").scan("TaskerCore::Engine").size).to eq 1
    end

    it "runs the sample with bin/tasker from a subdirectory" do
      @application.beside("../../bin/tasker", "work", directory: @application.path("app/models")) do
        expect(@application.run("bin/rails", "runner", greet)).to eq greeted
      end
    end

    it "passes all generated tests" do
      @application.run("bin/rails", "g", "tasker_core:workflow", "fulfillment", "validate", "reserve:validate",
                       "charge:validate",
                       "ship:reserve,charge", "--namespace", "sales")
      @application.generate("tasker_core:workflow billing/refund look pay:look --yaml --namespace sales",
                            "tasker_core:handler billing/charge_card", "tasker_core:subscriber pager step.failed")
      expect(@application.run("bin/rails", "test")).to include "9 runs, 13 assertions, 0 failures, 0 errors, 0 skips"
    end

    it "finishes a task after its failing step is repaired" do
      ship = lambda do |body|
        @application.write("app/workflows/delivery.rb", <<~RUBY)
          class Delivery < TaskerCore::Workflow
            step :pack
            step :ship, depends_on: :pack, retry: { max_attempts: 1 }

            def pack(_context) = { parcels: 2 }
            def ship(context) = #{body}
          end
        RUBY
      end
      ship.call('raise("the courier is closed")')
      @application.beside("bin/tasker", "work") do
        id = @application.run("bin/rails", "runner", "puts Delivery.create!.wait(timeout: 120).id").strip
        expect(@application.run("bin/tasker", "why", id))
          .to include("ship failed permanently in attempt 1 of 1 with RuntimeError: the courier is closed",
                      "`tasker retry #{id} ship --reason TEXT`")
        ship.call('{ sent: context.results["pack"]["parcels"] }')
        @application.run("bin/tasker", "retry", id, "ship", "--reason", "the courier is open")
        expect(@application.run("bin/rails", "runner", "p TaskerCore::Task.find(#{id}).wait(timeout: 120).results"))
          .to eq %({"pack"=>{"parcels"=>2}, "ship"=>{"sent"=>2}}\n)
        expect(@application.run("bin/tasker", "show", id))
          .to include("complete (all_complete)", "retry ship: the courier is open")
      end
    end

    it "loads new directories, handlers and YAML while running" do
      @application.write("config/initializers/quick.rb", <<~RUBY)
        Rails.application.config.tasker_core.discovery = { unknown_handler_delay: "50ms" }
        Rails.application.config.tasker_core.maintenance = { sweep_interval: "50ms" }
      RUBY
      @application.write("app/controllers/gifts_controller.rb", <<~RUBY)
        class GiftsController < ActionController::Base
          def create
            start = params[:wait]&.to_i&.seconds&.from_now
            render json: TaskerCore.workflow("gift").set(wait_until: start).create!.id
          end

          def steps = render(json: TaskerCore.workflow("gift").compiled.step_names)

          def show
            task = TaskerCore::Task.find(params[:id])
            steps = task.steps.flat_map { |step| [step.state, step.attempts, step.waiting_reason, step.result] }
            render json: [task.state, *steps]
          end
        end
      RUBY
      @application.write("config/routes.rb", @application.read("config/routes.rb").sub("do\n", <<~RUBY))
        do
          get "/gifts/create", to: "gifts#create"
          get "/gifts/steps", to: "gifts#steps"
          get "/gifts/:id", to: "gifts#show"
      RUBY
      FileUtils.rm_rf(@application.path("app/handlers"))
      @application.serving do |get|
        expect(get.call("/up").first).to eq 200
        json = ->(path) { get.call(path).then { |status, body| status == 200 ? JSON.parse(body) : body } }
        @application.beside("bin/tasker", "work") do
          @application.generate("tasker_core:workflow gift wrap --yaml") # which makes app/handlers
          expect(get.call("/up").first).to eq 200
          first = json.call("/gifts/create")
          eventually { json.call("/gifts/#{first}") == ["complete", "complete", 1, nil, {}] }

          handler = @application.path("app/handlers/gift/wrap.rb")
          right = File.read(handler)
          second = json.call("/gifts/create?wait=2")
          File.write(handler, right.sub("{}", "{ paper: ")) # which does not load
          expect(get.call("/gifts/#{second}").first).to eq 500
          eventually do
            File.read(@application.path("log/development.log")).include?("the application's code cannot be loaded")
          end
          File.write(handler, right.sub("{}", "{ paper: 2 }"))
          eventually { json.call("/gifts/#{second}") == ["complete", "complete", 1, nil, { "paper" => 2 }] }
        end

        yaml = @application.path("config/tasker/workflows/gift.yaml")
        File.write(yaml, File.read(yaml).sub("name: wrap", "name: pack_up"))
        expect(json.call("/gifts/steps")).to eq ["pack_up"]
        File.write(yaml, "name: [\n")
        expect(get.call("/up").first).to eq 500
        File.delete(yaml)
        expect(json.call("/gifts/steps")).to match(/there is no workflow default.gift/)
      end
    ensure
      made = %w[app/handlers/gift test/workflows/gift_test.rb config/initializers/quick.rb]
      FileUtils.rm_rf(made.map { |file| @application.path(file) })
    end

    it "merges settings of file and initializers for RAILS_ENV" do
      file = @application.path("config/tasker-core.yaml")
      File.write(file, "environments:\n  test:\n    execution:\n      processes: 2\n", mode: "a")
      @application.write("config/initializers/threads.rb",
                         "Rails.application.config.tasker_core.execution = { threads: 7 }\n")
      printed = @application.run(@application.path("bin/tasker"), "config", "--changed",
                                 directory: "/", RAILS_ENV: "test")
      expect(printed).to match(/threads: 7 /).and match(/processes: 2 /)
    end
  end

  describe "an API with RSpec, structure.sql and UUID keys" do
    before(:context) do
      @application = GeneratedApplication.new("service", "--api", "--skip-test")
      @application.write("config/initializers/orm.rb", <<~RUBY)
        Rails.application.config.active_record.schema_format = :sql
        Rails.application.config.generators { |g| g.orm :active_record, primary_key_type: :uuid }
      RUBY
      @application.run("bin/rails", "g", "rspec:install")
      @application.run("bin/rails", "g", "tasker_core:install", "--skip-route")
      @application.run("bin/rails", "db:migrate")
    end

    after(:context) { @application.remove }

    it "keeps bigint tables in structure.sql and no functions" do
      structure = @application.read("db/structure.sql")
      expect(structure).to match(/CREATE TABLE public.tasker_tasks \(\s+id bigint NOT NULL/)
      expect(structure).not_to include TaskerCore::Postgres::Functions::SCHEMA
    end

    it "passes all generated specs on a loaded structure.sql" do
      @application.generate("tasker_core:workflow fulfillment validate " \
                            "ship:validate --yaml", "tasker_core:handler charge_card",
                            "tasker_core:workflow shop/order look pack:look")
      expect(@application.run("bundle", "exec", "rspec")).to include "8 examples, 0 failures"
    end
  end

  describe "an application with a database for the gem" do
    before(:context) do
      @application = GeneratedApplication.new("split",
                                              databases: { "tasker" => { "migrations_paths" => "db/tasker_migrate" } })
      @application.run("bin/rails", "g", "tasker_core:install", "--database", "tasker")
      @application.run("bin/rails", "db:migrate")
    end

    after(:context) { @application.remove }

    it "uses that database's transactions for tasks and events" do
      @application.write("tmp/script.rb", <<~RUBY)
        #{greet}
        records = [ActiveRecord::Base, TaskerCore::ApplicationRecord]
        p records.map { |record| record.connection.data_source_exists?("tasker_tasks") }
        p(records.map do |record|
          record.transaction { SampleGreeting.create!(name: "Eve") && raise(ActiveRecord::Rollback) }
          TaskerCore::Task.count
        end)
        heard = Queue.new
        TaskerCore.events.register("order.shipped").subscribe("order.shipped") { |event| heard << event[:order_id] }
        TaskerCore::ApplicationRecord.transaction do
          TaskerCore.events.publish("order.shipped", { order_id: 1 })
          raise ActiveRecord::Rollback
        end
        TaskerCore.events.publish("order.shipped", { order_id: 2 })
        p heard.pop
      RUBY
      @application.beside("bin/tasker", "work") do
        expect(@application.run("bin/rails", "runner", "tmp/script.rb")).to eq "#{greeted}[false, true]\n[2, 2]\n2\n"
      end
    end

    it "passes the sample's test and finds its migrations again" do
      before = @application.files
      @application.run("bin/rails", "g", "tasker_core:install")
      expect(@application.files).to eq before
      expect(@application.run("bin/rails", "test")).to include "3 runs, 5 assertions, 0 failures, 0 errors, 0 skips"
    end
  end
end
