# frozen_string_literal: true

# Objects that the extension holds without marking them are freed at the next allocation.
module Collecting
  # Collects garbage at every allocation while the block runs. Load its code beforehand and keep matchers outside,
  # because everything is slow, and loading a file takes minutes.
  def collecting
    GC.stress = true
    yield
  ensure
    GC.stress = false
  end

  # @return [TaskerCore::Error, nil] the error that the block raises
  def raised
    yield
    nil
  rescue TaskerCore::Error => e
    e
  end
end

RSpec.configure { |config| config.include Collecting }
