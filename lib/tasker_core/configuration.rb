# frozen_string_literal: true

module TaskerCore
  # The settings in force: the defaults of `config/tasker-core.yaml` with an application's own over them.
  class Configuration
    # @return [Hash{String => Hash}] what differs from the defaults, by section
    attr_reader :overrides

    # @param overrides [Hash] by section; unknown keys are refused when the settings are first read
    def initialize(overrides = {})
      @overrides = Plain.of(overrides).freeze
    end

    # @return [Configuration] this one with further settings over it
    def with(overrides) = Configuration.new(@overrides.deep_merge(Plain.of(overrides)))

    # @return [Hash{Symbol => Hash}] every setting; durations in seconds
    # @raise [ConfigurationError] with every problem
    def to_h = @to_h ||= Door.configuration(@overrides).freeze

    # @example TaskerCore.config[:execution, :threads]
    def [](section, key) = to_h.fetch(section).fetch(key)
  end
end
