# frozen_string_literal: true

# Starts a task with a note of the id that it has.
class RelayJob < ActiveJob::Base
  def perform
    Rails.logger.info("relay job")
    Relay.create!(card: "none")
  end
end
