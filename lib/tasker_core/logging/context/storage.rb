# frozen_string_literal: true

module TaskerCore
  class Logging
    # @api private
    class Context
      # Where the current context is. Threads and fibers inherit it at their beginning: since Ruby 3.2 a fiber's storage
      # does that by itself, before that {Inheritance} does.
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

          { Thread => Inheritance::OfThreads, Fiber => Inheritance::OfFibers }.each { |type, mixin| type.prepend(mixin) }
        end
      end
    end
  end
end
