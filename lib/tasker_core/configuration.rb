# frozen_string_literal: true

module TaskerCore
  # The settings: the gem's defaults, overridden by the application's file, then by environment variables, then by its
  # code. docs/configuration.md lists all settings.
  class Configuration
    FILE = "config/tasker-core.yaml"
    # Also matches variables with too few underscores, of which the extension reports those that spell a setting.
    PREFIX = /\Atasker_?core_/i
    private_constant :PREFIX

    # The settings of the application in a directory, with or without a settings file.
    # @param directory [String, Pathname]
    # @param environment [String] selects a section of the file
    # @param overrides [Hash] by section
    # @param environments [Array<String>, nil] the application's; by default those of its config/environments, if any
    # @return [Configuration]
    def self.in(directory, environment:, overrides: {}, environments: environments_in(directory))
      file = Support::Utf8.text(File.expand_path(FILE, directory))
      own = File.file?(file) && !File.identical?(file, File.expand_path("../../#{FILE}", __dir__))
      new(overrides, file: (file if own), environment: environment, environments: environments)
    end

    # @return [Array<String>, nil] nil if the directory has no config/environments
    def self.environments_in(directory)
      files = Dir[File.expand_path("config/environments/*.rb", directory)]
      files.map { |file| Support::Utf8.text(File.basename(file, ".rb")) }.sort if files.any?
    end
    private_class_method :environments_in

    # @param overrides [Hash] by section; take precedence over all other sources
    # @param file [String, nil] path of a YAML file
    # @param environment [String, nil] selects a section of the file
    # @param environments [Array<String>, nil] allowed names of sections; nil: any
    # @param variables [#to_h] environment variables; those that begin with TASKER_CORE__ are settings
    # @raise [ConfigurationError] when the overrides have no JSON form; other problems are raised when settings are
    #   first read
    def initialize(overrides = {}, file: nil, environment: nil, environments: nil, variables: ENV)
      settings = variables.to_h.select { |name, _| name.b.match?(PREFIX) }
                          .transform_values { |value| Support::Utf8.text(value) }
      @sources = { file: file, environment: environment, environments: environments, variables: settings,
                   overrides: plain(overrides) }.freeze
    end

    # @return [Hash{String => Hash}] the settings of the application's code, by section
    def overrides = @sources[:overrides]

    # @param overrides [Hash] by section
    # @return [Configuration] a copy with further overrides
    def with(overrides)
      self.class.new(self.overrides.deep_merge(plain(overrides)), **@sources.except(:overrides))
    end

    # @return [Hash{Symbol => Hash}] every setting; durations in seconds, sizes in bytes
    # @raise [ConfigurationError] with every problem and its source
    def to_h = @to_h ||= native.to_h.freeze

    # @param path [Array<Symbol>] section and name
    # @return [Object]
    # @raise [KeyError] when the setting does not exist
    # @raise [ConfigurationError]
    # @example TaskerCore.config[:execution, :threads]
    def [](*path) = path.reduce(to_h) { |section, key| section.fetch(key) }

    # @return [Hash] `sections` (path, purpose) and `settings` (path, written, allowed, reason, origin)
    # @raise [ConfigurationError]
    def describe = JSON.parse(native.describe, symbolize_names: true)

    # @return [Hash{String => ExternalSystem}] by name
    # @raise [ConfigurationError]
    def systems
      @systems ||= begin
        settings = self[:systems].except("*")
        settings.to_h { |name, own| [name, ExternalSystem.new(name: name, **own)] }.freeze
      end
    end

    # @api private for {Bridge}
    def native
      @native ||= begin
        verify_texts
        Bridge.configuration(@sources)
      end
    end

    private

    # Rust reads UTF-8 only.
    def verify_texts
      file, variables = @sources.values_at(:file, :variables)
      fault = file && Support::Utf8.fault(Support::Utf8.read(file))
      raise ConfigurationError.new("#{file}: #{fault}") if fault

      name, = variables.find { |_, value| !value.valid_encoding? }
      raise ConfigurationError.new("the environment variable #{name} is not UTF-8: encode it as UTF-8") if name
    rescue SystemCallError
      nil # reported with the other problems
    end

    def plain(overrides)
      Support::JsonValue.of(overrides)
    rescue JSON::JSONError => e
      raise ConfigurationError.new("the settings cannot be written as JSON: #{e.message}")
    end
  end
end
