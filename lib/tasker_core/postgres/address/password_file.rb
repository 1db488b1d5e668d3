# frozen_string_literal: true

module TaskerCore
  module Postgres
    # @api private
    module Address
      # libpq's password file: lines of host:port:database:user:password, in which `*` matches anything.
      class PasswordFile
        USUAL_SOCKETS = [nil, "/var/run/postgresql", "/run/postgresql", "/tmp"].freeze
        private_constant :USUAL_SOCKETS

        # @param path [String]
        def initialize(path)
          @path = path
        end

        # @param host [String, nil] nil, and the directory of the default socket, also match "localhost"
        # @return [String, nil] of the first line that matches
        def password(host, port, database, user)
          hosts = USUAL_SOCKETS.include?(host) ? [host, "localhost"].compact : [host]
          wanted = [hosts, [port.to_s], [database], [user]]
          lines.each do |line|
            *pattern, password = fields(line)
            return password if password && matches?(pattern, wanted)
          end
          nil
        end

        private

        def matches?(pattern, wanted)
          pattern.zip(wanted).all? { |field, values| field == "*" || values.include?(field) }
        end

        # Like libpq, ignores a file that other users can read.
        def lines
          return [] unless File.file?(@path) && File.stat(@path).mode.nobits?(0o077)

          Support::Utf8.read(@path).lines(chomp: true).select { |line| line.valid_encoding? && !line.start_with?("#") }
        rescue SystemCallError
          []
        end

        # A backslash escapes a colon or a backslash; the fifth field ends at the next colon.
        def fields(line)
          fields = line.scan(/\G((?:\\.|[^\\:])*)(?::|\z)/).flatten.first(5)
          fields.map { |field| field.gsub(/\\(.)/, '\1') }
        end
      end
    end
  end
end
