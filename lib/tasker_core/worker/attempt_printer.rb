# frozen_string_literal: true

module TaskerCore
  class Worker
    # Prints a line for each attempt to the worker's terminal, in development: the step, its outcome and duration.
    #
    # @api private
    class AttemptPrinter
      class << self
        # @return [Boolean] true in development, unless the application's log is printed to the terminal anyway
        def enabled?
          return false unless defined?(Rails.env) && Rails.env.development?

          [$stdout, $stderr].none? { |stream| ActiveSupport::Logger.logger_outputs_to?(TaskerCore.logger, stream) }
        end

        # Prints the attempts of this process from now on.
        # @param out [IO]
        # @return [Object] for `ActiveSupport::Notifications.unsubscribe`
        def attach(out: $stderr)
          name = "perform_step.tasker_core"
          ActiveSupport::Notifications.monotonic_subscribe(name) do |_, started, finished, _, payload|
            Support::SafeOutput.line(new(payload, finished - started).to_s, out)
          end
        end
      end

      # @param attempt [Hash] the payload of `perform_step.tasker_core`
      # @param seconds [Float]
      def initialize(attempt, seconds)
        @attempt = attempt
        @claim = attempt.fetch(:claim)
        @seconds = seconds
      end

      # @return [String]
      def to_s
        workflow, task, step, number, most = @claim.values_at("workflow", "task_id", "step", "attempt", "max_attempts")
        text = "#{workflow} #{task} #{step}: #{outcome} (attempt #{number} of #{most})"
        Support::VisibleText.line(text)
      end

      private

      def outcome
        case @attempt[:outcome]
        when :completed then "done in #{duration}"
        when :failed then "#{final? ? 'failed' : 'failed, will be retried'}: #{failure} in #{duration}"
        when :released then "released: #{@attempt[:explanation]}"
        else "abandoned in #{duration}"
        end
      end

      def final? = @attempt[:last_attempt] || !@attempt[:retryable]

      def failure
        type, message = @attempt.fetch(:failure).values_at(:class, :message)
        "#{type}: #{Support::Failure.headline(message)}"
      end

      def duration = @seconds < 1 ? "#{(@seconds * 1000).round} ms" : "#{@seconds.round(1)} s"
    end
  end
end
