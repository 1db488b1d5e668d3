# frozen_string_literal: true

module TaskerCore
  module Postgres
    # @api private
    module Address
      # libpq's file of passwords: lines of host:port:database:user:password, in which `*` is anything.
      class PasswordFile
        USUAL_SOCKETS = [nil, "/var/run/postgresql", "/run/postgresql", "/tmp"].freeze
        private_constant :USUAL_SOCKETS

        # @param path [String]
        def initialize(path)
          @path = path
        end

        # @param host [String, nil] nil, or the directory of the usual socket, is "localhost" in the file
        # @return [String, nil] of the first line that fits
        def password(host, port, database, user)
          hosts = USUAL_SOCKETS.include?(host) ? [host, "localhost"].compact : [host]
          wanted = [hosts, [port.to_s], [database], [user]]
          lines.each do |line|
            *pattern, password = fields(line)
            return password if password && pattern.zip(wanted).all? { |field, values| field == "*" || values.include?(field) }
          end
          nil
        end

        private

        # As libpq, without what others can read.
        def lines
          return [] unless File.file?(@path) && File.stat(@path).mode.nobits?(0o077)

          Support::Utf8.read(@path).lines(chomp: true).select { |line| line.valid_encoding? && !line.start_with?("#") }
        rescue SystemCallError
          []
        end

        # A backslash keeps a colon, or a backslash; the fifth field goes on to the next colon.
        def fields(line)
          fields = line.scan(/\G((?:\\.|[^\\:])*)(?::|\z)/).flatten.first(5)
          fields.map { |field| field.gsub(/\\(.)/, '\1') }
        end
      end
    end
  end
end
