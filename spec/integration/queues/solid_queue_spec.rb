# frozen_string_literal: true

RSpec.describe Fleet::BACKENDS.fetch("solid_queue") do
  it_behaves_like "a queue of Active Job", "solid_queue"
end
