# frozen_string_literal: true

# Its step has begun once RUNNING has something, and ends once FINISH has.
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
