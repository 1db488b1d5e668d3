# frozen_string_literal: true

module TaskerCore
  # The settings in force: the gem's defaults, and over them an application's file, environment variables and own code.
  # docs/configuration.md lists them all.
  class Configuration
    FILE = "config/tasker-core.yaml"
    # With fewer underscores a variable is no setting, which the extension says of those that spell one.
    PREFIX = /\Atasker_?core_/i
    private_constant :PREFIX

    # The settings of the application in a directory, whether it has a file or not.
    # @param environment [String] whose section of the file applies
    # @param environments [Array<String>, nil] that the application has; by default those of its config/environments, if any
    def self.in(directory, environment:, overrides: {}, environments: environments_in(directory))
      file = Support::Utf8.text(File.expand_path(FILE, directory))
      own = File.file?(file) && !File.identical?(file, File.expand_path("../../#{FILE}", __dir__))
      new(overrides, file: (file if own), environment: environment, environments: environments)
    end

    # @return [Array<String>, nil] nil where the directory says nothing of environments
    def self.environments_in(directory)
      files = Dir[File.expand_path("config/environments/*.rb", directory)]
      files.map { |file| Support::Utf8.text(File.basename(file, ".rb")) }.sort if files.any?
    end
    private_class_method :environments_in

    # @param overrides [Hash] by section; stronger than all else
    # @param file [String, nil] path of a YAML file
    # @param environment [String, nil] whose section of the file applies
    # @param environments [Array<String>, nil] for which the file may have sections; nil: for any
    # @param variables [#to_h] environment variables; those that begin with TASKER_CORE__ are settings
    # @raise [ConfigurationError] when the overrides have no form in JSON; all else is told when settings are first read
    def initialize(overrides = {}, file: nil, environment: nil, environments: nil, variables: ENV)
      settings = variables.to_h.select { |name, _| name.b.match?(PREFIX) }.transform_values { |value| Support::Utf8.text(value) }
      @sources = { file: file, environment: environment, environments: environments, variables: settings,
                   overrides: plain(overrides) }.freeze
    end

    # @return [Hash{String => Hash}] what the application's code says, by section
    def overrides = @sources[:overrides]

    # @return [Configuration] this one with further settings over it
    def with(overrides)
      self.class.new(self.overrides.deep_merge(plain(overrides)), **@sources.except(:overrides))
    end

    # @return [Hash{Symbol => Hash}] every setting; durations in seconds, sizes in bytes
    # @raise [ConfigurationError] with every problem, and the source in which it stands
    def to_h = @to_h ||= native.to_h.freeze

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

    # Rust would take bytes of another encoding for something else.
    def verify_texts
      file, variables = @sources.values_at(:file, :variables)
      fault = file && Support::Utf8.fault(Support::Utf8.read(file))
      raise ConfigurationError.new("#{file}: #{fault}") if fault

      name, = variables.find { |_, value| !value.valid_encoding? }
      raise ConfigurationError.new("the environment variable #{name} is no UTF-8: write it in UTF-8") if name
    rescue SystemCallError
      nil # told with the other problems
    end

    def plain(overrides)
      JsonValue.of(overrides)
    rescue JSON::JSONError => e
      raise ConfigurationError.new("the settings cannot be written as JSON: #{e.message}")
    end
  end
end
