# frozen_string_literal: true

module TaskerCore
  module Postgres
    # @api private
    module Address
      # The encryption of a worker's connection, by libpq's parameters and default files.
      class Tls
        # Keys that matter only with TLS; `DONE_ANYWAY` has the supported values.
        KEYS = %i[sslcrl sslcrldir sslpassword sslsni sslnegotiation ssl_min_protocol_version ssl_max_protocol_version
                  sslcertmode sslcompression sslkeylogfile].freeze
        DONE_ANYWAY = {
          sslsni: %w[1], sslnegotiation: %w[postgres], sslcertmode: %w[allow], sslcompression: %w[0],
          ssl_min_protocol_version: %w[TLSv1 TLSv1.1 TLSv1.2], ssl_max_protocol_version: %w[TLSv1.3]
        }.freeze
        MODES = %w[disable allow prefer require verify-ca verify-full].freeze
        VERIFYING = %w[verify-ca verify-full].freeze
        private_constant :DONE_ANYWAY, :MODES, :VERIFYING

        # @param parameters [Parameters]
        def initialize(parameters)
          @parameters = parameters
        end

        # @return [Hash{Symbol => String}]
        def to_h
          return { sslmode: "disable" } unless used?

          own = { sslcert: file(:sslcert, "postgresql.crt"), sslkey: file(:sslkey, "postgresql.key") }
          { sslmode: mode, sslrootcert: root, **own }.compact
        end

        # @raise [ConfigurationError] naming a key that workers do not support
        def verify
          @parameters.invalid!(:sslmode, "must be one of #{MODES.join(', ')}") unless MODES.include?(requested_mode)
          return unless used?

          KEYS.each do |key|
            value = @parameters[key]
            next if value.nil? || DONE_ANYWAY[key]&.include?(value)

            @parameters.invalid!(key, "is supported by Active Record, but not by workers' connections: remove it or " \
                                      "change its value")
          end
          verify_files
        end

        private

        def requested_mode = @parameters[:sslmode] || "prefer"

        # Unix sockets have no TLS.
        def used?
          requested_mode != "disable" && @parameters.hosts.any? { |host| host[:host] && !host[:host].start_with?("/") }
        end

        def system? = @parameters[:sslrootcert] == "system"

        # `require` verifies if a root certificate exists.
        def mode
          return "verify-full" if system?

          requested_mode == "require" && root ? "verify-ca" : requested_mode
        end

        def root = system? ? nil : file(:sslrootcert, "root.crt")

        # Like libpq, defaults to a file in the home directory, and ignores a file that does not exist.
        def file(key, usual)
          path = @parameters[key] || File.join(Dir.home, ".postgresql", usual)
          path if File.exist?(path)
        end

        def verify_files
          if VERIFYING.include?(mode) && File.exist?(File.join(Dir.home, ".postgresql", "root.crl"))
            @parameters.invalid!(:sslcrl, "exists as ~/.postgresql/root.crl, which workers do not support: remove it")
          end
          return unless mode == "verify-full" && @parameters[:hostaddr] && @parameters[:host]

          @parameters.invalid!(:hostaddr,
                               "cannot be combined with host and verify-full on workers' connections: leave one out")
        end
      end
    end
  end
end
