# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether the gem supports this Ruby and this Rails, and its extension has the same version as the gem.
    #
    # @api private
    class Versions < Check
      SUPPORTED = { "Ruby" => [RUBY_VERSION, [">= 3.1"]],
                    "Active Record" => [ActiveRecord.version.to_s, [">= 7.1", "< 9"]] }.freeze
      REBUILD = "run `gem pristine tasker_core`, or `bundle exec rake compile` in the gem's checkout"
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

        [error("the extension was built for tasker_core #{Bridge.version}, but the gem is #{VERSION}", REBUILD)]
      end

      def unsupported
        SUPPORTED.filter_map do |name, (version, supported)|
          next if Gem::Requirement.new(supported).satisfied_by?(Gem::Version.new(version).release)

          error("#{name} is #{version}, but tasker_core #{VERSION} supports #{supported.join(', ')}",
                "change the version of #{name} or of tasker_core in the Gemfile")
        end
      end

      # Before 7.2.4, and in 8.0, Active Support passes an option that json 3 rejects, and Active Record reads nil.
      def json
        return if reads_json?

        [error("Active Support #{ActiveSupport.version} cannot read JSON with json #{JSON::VERSION}",
               'add `gem "json", "< 3"` to the Gemfile, or use Rails 7.2.4, or 8.1 or later')]
      end

      def reads_json?
        ActiveSupport::JSON.decode('{"read":true}') == { "read" => true }
      rescue ArgumentError
        false
      end

      def ok_message
        others = SUPPORTED.map { |name, (version, _)| "#{name} #{version}" }
        "tasker_core #{VERSION} with its extension, #{others.join(', ')}"
      end
    end
  end
end
