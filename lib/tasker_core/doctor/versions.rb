# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether the gem is made for this Ruby and this Rails, and its extension for the gem.
    #
    # @api private
    class Versions < Check
      SUPPORTED = { "Ruby" => [RUBY_VERSION, [">= 3.1"]],
                    "Active Record" => [ActiveRecord.version.to_s, [">= 7.1", "< 9"]] }.freeze
      REBUILD = "`bundle exec rake compile` in the gem's checkout, or `gem pristine tasker_core`"
      private_constant :SUPPORTED, :REBUILD

      def self.needs = []

      private

      def issues
        [*extension, *unsupported, *json]
      rescue NativeMissingError => e
        error(e.message, REBUILD)
      end

      def extension
        return if Bridge.version == VERSION

        [error("the extension is that of tasker_core #{Bridge.version}, and the gem is #{VERSION}", REBUILD)]
      end

      def unsupported
        SUPPORTED.filter_map do |name, (version, supported)|
          next if Gem::Requirement.new(supported).satisfied_by?(Gem::Version.new(version).release)

          error("#{name} is #{version}, and tasker_core #{VERSION} is made for #{supported.join(', ')}",
                "change the version of #{name}, or that of tasker_core, in the Gemfile")
        end
      end

      # Before 7.2.4, and in 8.0, Active Support gives json an option that its version 3 refuses, and Active Record reads nil.
      def json
        return if reads_json?

        [error("Active Support #{ActiveSupport.version} cannot read JSON with json #{JSON::VERSION}",
               'give the Gemfile `gem "json", "< 3"`, or Rails 7.2.4, or 8.1 or later')]
      end

      def reads_json?
        ActiveSupport::JSON.decode('{"read":true}') == { "read" => true }
      rescue ArgumentError
        false
      end

      def ok_message
        "tasker_core #{VERSION} with its extension, #{SUPPORTED.map { |name, (version, _)| "#{name} #{version}" }.join(', ')}"
      end
    end
  end
end
