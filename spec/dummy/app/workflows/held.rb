# frozen_string_literal: true

# Its step has begun once RUNNING has something, and ends once LET_GO has.
class Held < TaskerCore::Workflow
  RUNNING = Queue.new
  LET_GO = Queue.new

  step :only
  step :after, depends_on: :only

  def only(context)
    RUNNING << context.token
    { let_go: LET_GO.pop }
  end

  def after(context) = { saw: context.results["only"]["let_go"] }
end
