# frozen_string_literal: true

# Two branches that finish only if they run at the same time.
class Meeting < TaskerCore::Workflow
  PLACE = Queue.new
  WAITING = Queue.new

  step :left, timeout: 20, retryable: false
  step :right, timeout: 20, retryable: false
  step :both, depends_on: %i[left right]

  def left(_context)
    PLACE << :left
    { met: WAITING.pop }
  end

  def right(_context)
    WAITING << :right
    { met: PLACE.pop }
  end

  def both(context) = { met: context.results.to_h.transform_values { |result| result["met"] } }
end
