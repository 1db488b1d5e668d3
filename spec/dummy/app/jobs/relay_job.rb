# frozen_string_literal: true

# Starts a task that records the current correlation id.
class RelayJob < ActiveJob::Base
  def perform
    Rails.logger.info("relay job")
    Relay.create!(card: "none")
  end
end
