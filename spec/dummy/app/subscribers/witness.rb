# frozen_string_literal: true

# Keeps what it is told of the workflow that tells most.
class Witness < TaskerCore::Subscriber
  SEEN = Queue.new

  subscribe_to "shop.*", workflow: "telling"

  def call(event) = SEEN << event
end
