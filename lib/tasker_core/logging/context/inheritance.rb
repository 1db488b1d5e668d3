# frozen_string_literal: true

module TaskerCore
  class Logging
    # @api private
    class Context
      # Before Ruby 3.2: a thread or fiber begins with the context in which it was made. Outside any, it is made as ever.
      #
      # @api private
      module Inheritance
        def self.carrying(block)
          context = block && Storage.load
          return block unless context

          proc do |*arguments|
            Storage.store(context)
            block.call(*arguments)
          end.ruby2_keywords
        end

        module OfThreads
          ruby2_keywords def initialize(*arguments, &block) = super(*arguments, &Inheritance.carrying(block))
        end

        # Where a thread's fibers share its state, they have its context anyway, and it may be another by the time they begin.
        module OfFibers
          ruby2_keywords def initialize(*arguments, &block)
            shared = ActiveSupport::IsolatedExecutionState.isolation_level == :thread
            super(*arguments, &(shared ? block : Inheritance.carrying(block)))
          end
        end
      end
    end
  end
end
