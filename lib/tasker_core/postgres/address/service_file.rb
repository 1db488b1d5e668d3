# frozen_string_literal: true

module TaskerCore
  module Postgres
    # @api private
    module Address
      # A section of libpq's connection service file.
      class ServiceFile
        # The section is there, and has something that cannot be used; the message is the end of a sentence.
        class Unreadable < StandardError; end

        # @param name [String] of the service
        # @param path [String, nil] of a file; without it the environment's, the user's, and then the system's
        # @return [ServiceFile, nil] nil when no file defines it
        def self.find(name, path = nil)
          own = path || ENV["PGSERVICEFILE"].presence || File.join(Dir.home, ".pg_service.conf")
          [own, File.join(ENV["PGSYSCONFDIR"].presence || "/etc/postgresql-common", "pg_service.conf")]
            .map { |file| new(file, name) }.find(&:defined?)
        end

        def initialize(path, name)
          @lines = section(path, name)
        end

        # @return [Boolean]
        def defined? = !@lines.nil?

        # @return [Hash{Symbol => String}] the first of each key
        # @raise [Unreadable]
        def values
          @lines.each_with_object({}) do |line, values|
            raise Unreadable, "is looked up by LDAP, which a worker cannot do: write its values down" if line.start_with?("ldap")

            key, value = line.split("=", 2)
            raise Unreadable, "has a line that is no parameter in its service file" unless value

            values[key.to_sym] ||= value
          end
        end

        private

        def section(path, name)
          return unless File.file?(path)

          lines = Support::Utf8.read(path).scrub.lines.map(&:strip).reject { |line| line.empty? || line.start_with?("#") }
          start = lines.index("[#{name}]") or return
          lines.drop(start + 1).take_while { |line| !line.start_with?("[") }
        end
      end
    end
  end
end
