# frozen_string_literal: true

module TaskerCore
  module Correlation
    # Makes Active Job carry the correlation id from the code that enqueues a job to the process that performs it. The
    # engine includes it in ActiveJob::Base, unless `correlation.jobs` is false.
    #
    # @api private
    module ActiveJobExtension
      extend ActiveSupport::Concern

      KEY = "tasker_correlation_id"
      private_constant :KEY

      included do
        around_perform do |_, perform|
          id = @tasker_correlation_id
          id ? Correlation.within(id) { TaskerCore.logging.around(Context.current, &perform) } : perform.call
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
