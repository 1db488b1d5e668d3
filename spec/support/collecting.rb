# frozen_string_literal: true

# What the extension holds without telling the garbage collector is gone at the next allocation.
module Collecting
  # Has garbage collected at every allocation while the block runs. What it calls must be loaded, and matchers stay outside:
  # all of it is slowed down, a file that is loaded meanwhile by minutes.
  def collecting
    GC.stress = true
    yield
  ensure
    GC.stress = false
  end

  # @return [TaskerCore::Error, nil] what the block raises
  def raised
    yield
    nil
  rescue TaskerCore::Error => e
    e
  end
end

RSpec.configure { |config| config.include Collecting }
