# frozen_string_literal: true

module TaskerCore
  module Postgres
    # @api private
    module Address
      # A section of libpq's connection service file.
      class ServiceFile
        # The section exists but is not usable; the message completes a sentence.
        class Unreadable < StandardError; end

        LDAP = "uses LDAP, which workers do not support: list its values in the file"
        private_constant :LDAP

        # @param name [String] of the service
        # @param path [String, nil] of a file; by default that of the environment or of the user, then the system's
        # @return [ServiceFile, nil] nil when no file defines the service
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

        # @return [Hash{Symbol => String}] the first value of each key
        # @raise [Unreadable]
        def values
          @lines.each_with_object({}) do |line, values|
            raise Unreadable, LDAP if line.start_with?("ldap")

            key, value = line.split("=", 2)
            raise Unreadable, "has a line without `=` in its service file" unless value

            values[key.to_sym] ||= value
          end
        end

        private

        def section(path, name)
          return unless File.file?(path)

          lines = Support::Utf8.read(path).scrub.lines.map(&:strip)
          lines.reject! { |line| line.empty? || line.start_with?("#") }
          start = lines.index("[#{name}]") or return
          lines.drop(start + 1).take_while { |line| !line.start_with?("[") }
        end
      end
    end
  end
end
