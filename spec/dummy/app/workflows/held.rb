# frozen_string_literal: true

# Its step pushes to RUNNING when it starts, and ends when it can pop from FINISH.
class Held < TaskerCore::Workflow
  RUNNING = Queue.new
  FINISH = Queue.new

  step :only
  step :after, depends_on: :only

  def only(context)
    RUNNING << context.token
    { finished: FINISH.pop }
  end

  def after(context) = { saw: context.results["only"]["finished"] }
end
