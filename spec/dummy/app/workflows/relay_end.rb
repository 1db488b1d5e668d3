# frozen_string_literal: true

# The workflow that a relay starts.
class RelayEnd < TaskerCore::Workflow
  step :stop, queue: "relay_arrive"

  def stop(_context) = nil
end
