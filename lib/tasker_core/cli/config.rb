# frozen_string_literal: true

module TaskerCore
  class CLI
    # `tasker config`: prints the current settings in the form of `config/tasker-core.yaml`, each with its allowed
    # values, its purpose and its origin. `tasker config check` only checks them.
    #
    # @api private
    class Config < Command
      include Application

      ARGUMENTS = %w[[check]].freeze

      private

      def prepare
        load_application if application?
      end

      def perform(subcommand = nil)
        raise UsageError, "config: #{subcommand}: must be `check` or omitted" unless [nil, "check"].include?(subcommand)
        raise UsageError, "config check: --changed has no effect: remove it" if subcommand && @changed

        TaskerCore.configure(Configuration.in(Dir.pwd, environment: environment)) unless defined?(Rails.application)
        described = TaskerCore.config.describe
        subcommand ? print_ok : print(described)
        0
      end

      def options(parser)
        parser.on("--changed", "print only the settings that differ from their defaults") { @changed = true }
        super
      end

      # An invalid setting has raised before.
      def print_ok = @json ? print_json(valid: true) : @out.puts("tasker: the settings are valid")

      def environment = ENV["RAILS_ENV"] || ENV["RACK_ENV"] || "development"

      def print(described)
        settings = described.fetch(:settings)
        settings = settings.reject { |setting| setting[:origin] == "default" } if @changed
        return print_json(settings: settings) if @json

        purposes = described.fetch(:sections).to_h { |section| section.values_at(:path, :purpose) }
        print_sections(settings.group_by { |setting| setting[:path].split(".")[0..-2] }, purposes)
      end

      # Prints sections as in the YAML file, so that an application can start its own file from the output.
      def print_sections(groups, purposes)
        printed = []
        groups.sort_by { |path, _| purposes.keys.index(path.join(".")) || purposes.size }.each do |path, settings|
          path.each_index do |depth|
            section = path[0..depth]
            next if printed.include?(section)

            printed << section
            @out.puts if depth.zero?
            open_section(section, purposes[section.join(".")])
          end
          settings.each { |setting| @out.puts line(setting, path.size) }
        end
      end

      def open_section(path, purpose)
        indent = "  " * (path.size - 1)
        @out.puts "#{indent}# #{purpose}" if purpose
        @out.puts "#{indent}#{key(path.last)}:"
      end

      def line(setting, depth)
        origin = " [#{setting[:origin]}]" unless setting[:origin] == "default"
        assignment = "#{'  ' * depth}#{key(setting[:path].split('.').last)}: #{value(setting[:written])}"
        "#{assignment.ljust(34)} # #{setting[:allowed]}; #{setting[:reason]}#{origin}"
      end

      def key(name) = name == "*" ? '"*"' : name

      def value(written) = written.is_a?(String) && written.match?(/\A[\w.]+\z/) ? written : JSON.generate(written)
    end
  end
end
