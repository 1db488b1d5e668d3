# frozen_string_literal: true

module TaskerCore
  # The settings in force: the defaults of `config/tasker-core.yaml` with an application's own over them.
  class Configuration
    # @return [Hash{String => Hash}] what differs from the defaults, by section
    attr_reader :overrides

    # @param overrides [Hash] by section; unknown keys are refused when the settings are first read
    # @raise [ConfigurationError] when they have no form in JSON
    def initialize(overrides = {})
      @overrides = plain(overrides).freeze
    end

    # @return [Configuration] this one with further settings over it
    def with(overrides) = Configuration.new(@overrides.deep_merge(plain(overrides)))

    # @return [Hash{Symbol => Hash}] every setting; durations in seconds
    # @raise [ConfigurationError] with every problem
    def to_h = @to_h ||= Door.configuration(@overrides).freeze

    # @example TaskerCore.config[:execution, :threads]
    def [](section, key) = to_h.fetch(section).fetch(key)

    private

    def plain(overrides)
      Plain.of(overrides)
    rescue JSON::JSONError => e
      raise ConfigurationError.new("the settings cannot be written as JSON: #{e.message}")
    end
  end
end
