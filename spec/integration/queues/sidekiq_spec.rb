# frozen_string_literal: true

RSpec.describe Fleet::BACKENDS.fetch("sidekiq") do
  it_behaves_like "a queue of Active Job", "sidekiq"
end
