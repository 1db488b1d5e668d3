# frozen_string_literal: true

require "net/http"
require "socket"

# `plugin :tasker_core` in a new application, with real Puma.
RSpec.describe "Puma plugin" do
  before(:context) do
    @application = GeneratedApplication.new("corner")
    @application.run("bin/rails", "g", "tasker_core:install")
    @application.run("bin/rails", "db:migrate")
    @application.write("app/workflows/held.rb", <<~RUBY)
      class Held < TaskerCore::Workflow
        step :hold

        def hold(_context)
          File.write(Rails.root.join("tmp/begun"), "")
          sleep 0.05 until File.exist?(Rails.root.join("tmp/go"))
          {}
        end
      end
    RUBY
    @application.write("config/routes.rb", <<~RUBY)
      Rails.application.routes.draw do
        get "/create", to: ->(_env) { [200, {}, [Held.create!.id.to_s]] }
        get "/pid", to: ->(_env) { [200, {}, [Process.pid.to_s]] }
      end
    RUBY
    @database = @application.read("config/database.yml")
  end

  after(:context) { @application.remove }

  before do
    %w[tmp/begun tmp/go].each { |file| FileUtils.rm_f(@application.path(file)) }
    @application.write("config/database.yml", @database)
  end

  after do |example|
    puts log if example.exception && @log
    kill("KILL", @puma)
    Process.wait(@puma)
  rescue Errno::ECHILD
    nil # it has ended
  ensure
    eventually { workers.empty? } # each worker ends with its Puma
    @connection&.close
  end

  # Starts Puma in a process group of its own, as a terminal does.
  def start(settings = "")
    @port = Addrinfo.tcp("127.0.0.1", 0).bind { |socket| socket.local_address.ip_port }
    @application.write("config/puma.rb", "threads 1, 2\n#{settings}\nplugin :tasker_core\n")
    File.open(log = @application.path("log/puma.log"), "w") do |out|
      # Puma restarts with the environment before Bundler's changes.
      environment = Bundler.unbundled_env.merge(GeneratedApplication::ENVIRONMENT)
      @puma = spawn(environment, "bundle", "exec", "puma", "-b", "tcp://127.0.0.1:#{@port}",
                    chdir: @application.path, pgroup: true, unsetenv_others: true, out: out, err: out)
    end
    @log = log
  end

  def log = File.read(@log)

  def get(path) = Net::HTTP.get(URI("http://127.0.0.1:#{@port}#{path}"))

  def serving? = !get("/pid").empty?

  def kill(signal, pid)
    Process.kill(signal, pid)
  rescue Errno::ESRCH
    nil # it has ended
  end

  def connection
    @connection ||= PG.connect(YAML.safe_load(@database)["development"]["primary"].then do |settings|
      { host: settings["host"], port: settings["port"], user: settings["username"], password: settings["password"],
        dbname: settings["database"] }.compact
    end)
  end

  # Process ids of the registered workers.
  def workers = connection.exec("select pid from tasker_processes order by id").column_values(0).map(&:to_i)

  def worker = eventually { workers.then { |pids| pids.first if pids.size == 1 } }

  def state(task) = connection.exec("select state from tasker_tasks where id = #{task}").getvalue(0, 0)

  def attempts(task)
    connection.exec("select outcome from tasker_step_attempts where task_id = #{task} order by token").column_values(0)
  end

  # Creates a task in the web server, and awaits the beginning of its step.
  def begin_step
    get("/create").tap { eventually { File.exist?(@application.path("tmp/begun")) } }
  end

  def release = @application.write("tmp/go", "")

  def await_end = eventually { Process.wait2(@puma, Process::WNOHANG)&.last }

  # Ended children for which Puma has not waited.
  def zombies
    eventually do
      children = `ps -e -o ppid=,stat=`.lines.map(&:split).select { |parent, _| parent.to_i == @puma }
      children.none? { |_, state| state.start_with?("Z") }
    end
    []
  end

  modes = { "in single mode" => "", "in cluster mode" => "workers 2\npreload_app! false",
            "with a preloaded application" => "workers 2\npreload_app!" }

  modes.each do |mode, settings|
    it "runs one worker #{mode}, which drains when Puma is stopped" do
      start(settings)
      worker
      task = begin_step
      expect(get("/pid").to_i).not_to eq worker
      kill("TERM", @puma)
      eventually { log.include?("claims no more steps") }
      expect(Process.wait2(@puma, Process::WNOHANG)).to be_nil
      release
      await_end
      expect([state(task), attempts(task), workers]).to eq ["complete", ["completed"], []]
    end

    it "replaces a worker that was killed #{mode}, and lets it end when Puma is killed" do
      start(settings)
      first = worker
      supervisor = log[/worker started as process (\d+)/, 1].to_i
      kill("KILL", supervisor)
      eventually { log.match?(/tasker_core: the worker has ended: .*; another starts in 1 s/) }
      eventually { workers.then { |pids| pids.any? && pids.exclude?(first) } }
      expect(serving?).to be true
      kill("KILL", @puma)
      eventually { workers.empty? }
      expect(log).to include "tasker: the parent process has ended: draining"
    end

    it "starts another worker at a hot restart #{mode}, while the first one drains" do
      start(settings)
      first = worker
      task = begin_step
      kill("USR2", @puma)
      eventually { (workers - [first]).any? }
      expect(workers).to include first
      release
      eventually { state(task) == "complete" && workers.size == 1 }
      expect([attempts(task), serving?, zombies]).to eq [["completed"], true, []]
    end
  end

  it "stops the worker with the terminal's Ctrl-C, and at once with another" do
    start
    worker
    task = begin_step
    Process.kill("INT", -@puma)
    eventually { log.include?("waiting for the worker's running steps") && log.include?("claims no more steps") }
    Process.kill("INT", -@puma)
    await_end
    expect([state(task), attempts(task), workers]).to eq ["pending", ["released"], []]
  end

  it "starts another worker when a phased restart has loaded new code" do
    start(modes.fetch("in cluster mode"))
    first = worker
    web = get("/pid")
    kill("USR1", @puma)
    eventually { (workers - [first]).size == 1 && workers.size == 1 }
    expect(log).to include "tasker_core: phased restart: the worker drains, and another starts"
    eventually { serving? && get("/pid") != web }
  end

  it "serves requests while the worker cannot start" do
    broken = YAML.safe_load(@database)
    broken["development"]["primary"].merge!("host" => "127.0.0.1", "port" => 1)
    @application.write("config/database.yml", broken.to_yaml)
    start
    eventually { log.match?(/another starts in 1 s.*another starts in 2 s/m) }
    expect(serving?).to be true
    @application.write("config/database.yml", @database)
    worker
  end
end
