# frozen_string_literal: true

module TaskerCore
  module Correlation
    # @api private
    class Context
      # Stores the current context. Threads and fibers inherit it: since Ruby 3.2 by fiber storage, before that by
      # {Inheritance}.
      #
      # @api private
      module Storage
        KEY = :tasker_core_log_context

        if Fiber.respond_to?(:[])
          def self.load = Fiber[KEY]

          def self.store(context)
            Fiber[KEY] = context
          end
        else
          def self.load = ActiveSupport::IsolatedExecutionState[KEY]

          def self.store(context)
            ActiveSupport::IsolatedExecutionState[KEY] = context
          end

          Thread.prepend(Inheritance::OfThreads)
          Fiber.prepend(Inheritance::OfFibers)
        end
      end
    end
  end
end
