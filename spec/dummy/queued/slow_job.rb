# frozen_string_literal: true

# As Slow, but its steps run in the queue workers of Active Job.
class SlowJob < TaskerCore::Workflow
  dispatch :active_job
  input required: { directory: :string }

  step :only, retry: { max_attempts: 5, backoff: :none }, timeout: 60
  step :after, depends_on: :only

  def only(context)
    directory = Pathname(context.input["directory"])
    directory.join("started-#{context.attempt}-#{Process.pid}-#{context.token}").write("")
    sleep 0.02 until directory.join("go").exist?
    { pid: Process.pid, attempt: context.attempt }
  end

  def after(_context) = { pid: Process.pid }
end
