# frozen_string_literal: true

module TaskerCore
  module Correlation
    # @api private
    class Context
      # Lets threads and fibers inherit the context of the code that creates them, before Ruby 3.2. Where no context is
      # current, they are created as without it.
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

        # Where all fibers of a thread share its state, they have its context anyway, which may change before they
        # begin.
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
