# frozen_string_literal: true

# Discards Rust's log lines that earlier examples left in the process's buffer.
RSpec.configure do |config|
  config.before { nil until TaskerCore::Bridge.take_logs == [[], 0] }
end
