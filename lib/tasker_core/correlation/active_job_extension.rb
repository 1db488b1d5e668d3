# frozen_string_literal: true

module TaskerCore
  module Correlation
    # For Active Job: a job has the correlation id of whatever enqueued it, in whichever process it is performed. The engine
    # includes it into ActiveJob::Base, unless `correlation.jobs` is false.
    #
    # @api private
    module ActiveJobExtension
      extend ActiveSupport::Concern

      KEY = "tasker_correlation_id"
      private_constant :KEY

      included do
        around_perform do |_, perform|
          id = @tasker_correlation_id
          id ? Correlation.within(id) { TaskerCore.logging.around(Logging::Context.current, &perform) } : perform.call
        end
      end

      def serialize = super.merge({ KEY => @tasker_correlation_id || Correlation.current }.compact)

      def deserialize(data)
        super
        @tasker_correlation_id = data[KEY]
      end
    end
  end
end
