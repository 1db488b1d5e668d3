# frozen_string_literal: true

module Fleet
  # Configures an application's Active Job for the queue that QUEUE_ADAPTER names. Call it in the application's class.
  module Adapter
    LIBRARIES = { "sidekiq" => %w[sidekiq sidekiq/rails], "solid_queue" => %w[solid_queue],
                  "good_job" => %w[good_job] }.freeze

    module_function

    # @return [void] does nothing without the variable
    def configure(config)
      adapter = ENV["QUEUE_ADAPTER"] or return
      require "active_job/railtie"
      LIBRARIES.fetch(adapter).each { |library| require library }
      config.active_job.queue_adapter = adapter.to_sym
      config.good_job.execution_mode = :external if adapter == "good_job"
    end
  end
end
