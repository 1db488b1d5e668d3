# frozen_string_literal: true

# Rust's log lines wait in a buffer of the process. What earlier examples left there is not for later ones to find.
RSpec.configure do |config|
  config.before { nil until TaskerCore::Bridge.take_logs == [[], 0] }
end
