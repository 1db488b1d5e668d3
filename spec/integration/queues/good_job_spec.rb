# frozen_string_literal: true

RSpec.describe Fleet::BACKENDS.fetch("good_job") do
  it_behaves_like "a queue of Active Job", "good_job"
end
