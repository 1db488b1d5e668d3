# frozen_string_literal: true

# Records each start in a file and waits until another file exists, for tests that kill, pause or drain its process.
class Slow < TaskerCore::Workflow
  input required: { directory: :string }

  step :only, retry: { max_attempts: 5, backoff: :none }, timeout: 60

  def only(context)
    directory = Pathname(context.input["directory"])
    directory.join("started-#{context.attempt}-#{Process.pid}").write("")
    sleep 0.02 until directory.join("go").exist?
    { pid: Process.pid, attempt: context.attempt }
  end
end
