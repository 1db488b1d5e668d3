# frozen_string_literal: true

# Its step runs until its attempt is revoked, and then returns a normal result.
class Watchful < TaskerCore::Workflow
  RUNNING = Queue.new
  TOKENS = Queue.new

  step :only, timeout: 30

  def only(context)
    RUNNING << context.token
    sleep 0.01 until context.cancelled?
    TOKENS << context.token
    { finished: context.token }
  end
end
