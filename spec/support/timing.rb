# frozen_string_literal: true

# Durations in tests.
module Timing
  # @return [Float] seconds that the block took
  def elapsed
    began = TaskerCore::Support::MonotonicClock.now
    yield
    TaskerCore::Support::MonotonicClock.now - began
  end
end

RSpec.configure { |config| config.include Timing }
