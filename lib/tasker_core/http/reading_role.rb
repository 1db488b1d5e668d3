# frozen_string_literal: true

module TaskerCore
  module HTTP
    # For controllers of the engine: serves requests that only read on the role `config.tasker_core.reading_role`, after
    # the application has authenticated them. Other requests, and the page that follows an operator's action, use the
    # default role, because a replica may lack the latest changes.
    #
    # @api private
    module ReadingRole
      private

      def use_reading_role(&block)
        role = Engine.config.tasker_core.reading_role
        return yield if role.nil? || !(request.get? || request.head?) || params.key?(:done)

        ApplicationRecord.switched_to(role: role, &block)
      end
    end
  end
end
