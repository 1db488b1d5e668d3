# frozen_string_literal: true

# Its step goes on until its attempt is taken from it, and then answers as if nothing had been.
class Watchful < TaskerCore::Workflow
  RUNNING = Queue.new
  TOKENS = Queue.new

  step :only, timeout: 30

  def only(context)
    RUNNING << context.token
    sleep 0.01 until context.cancelled?
    TOKENS << context.token
    { answered: context.token }
  end
end
