# frozen_string_literal: true

# Keeps what it is told of the workflow that tells most.
class Witness < TaskerCore::Subscriber
  RECEIVED = Queue.new

  subscribe_to "shop.*", workflow: "announcing"

  def call(event) = RECEIVED << event
end
