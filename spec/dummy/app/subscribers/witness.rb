# frozen_string_literal: true

# Keeps the events of the workflow that publishes most.
class Witness < TaskerCore::Subscriber
  RECEIVED = Queue.new

  subscribe_to "shop.*", workflow: "announcing"

  def call(event) = RECEIVED << event
end
