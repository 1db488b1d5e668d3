# frozen_string_literal: true

# Ends or damages its worker process at every attempt.
class Killer < TaskerCore::Workflow
  input required: { kind: :string }

  step :only, retry: { max_attempts: 3, backoff: :none }, timeout: 60

  def only(context)
    case context.input["kind"]
    when "exit!" then exit!
    when "kill" then Process.kill("KILL", Process.pid).then { sleep }
    when "main thread" then Thread.main.kill.then { sleep }
    when "abort" then Thread.main.raise(SystemExit).then { sleep }
    when "fork" then { forked: fork.nil? }
    when "output" then [$stdout, $stderr].each(&:close).then { raise "no stream is left" }
    end
  end
end
