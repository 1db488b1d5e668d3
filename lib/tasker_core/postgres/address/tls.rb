# frozen_string_literal: true

module TaskerCore
  module Postgres
    # @api private
    module Address
      # How a worker's connection is encrypted, by libpq's parameters and the files that it looks for.
      class Tls
        # Keys that mean something only where there is TLS; what a worker can do with the values is said here.
        KEYS = %i[sslcrl sslcrldir sslpassword sslsni sslnegotiation ssl_min_protocol_version ssl_max_protocol_version sslcertmode
                  sslcompression sslkeylogfile].freeze
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

        # @raise [ConfigurationError] naming what a worker cannot do
        def verify
          @parameters.invalid!(:sslmode, "must be one of #{MODES.join(', ')}") unless MODES.include?(requested_mode)
          return unless used?

          KEYS.each do |key|
            value = @parameters[key]
            next if value.nil? || DONE_ANYWAY[key]&.include?(value)

            @parameters.invalid!(key, "is honoured by Active Record, and cannot be by a worker's connection: remove it, or " \
                                      "give it another value")
          end
          verify_files
        end

        private

        def requested_mode = @parameters[:sslmode] || "prefer"

        # Sockets of this machine have none.
        def used?
          requested_mode != "disable" && @parameters.hosts.any? { |host| host[:host] && !host[:host].start_with?("/") }
        end

        def system? = @parameters[:sslrootcert] == "system"

        # `require` verifies once there is a certificate to verify with.
        def mode
          return "verify-full" if system?

          requested_mode == "require" && root ? "verify-ca" : requested_mode
        end

        def root = system? ? nil : file(:sslrootcert, "root.crt")

        # libpq looks in the home directory for what is not said, and does without what is not there.
        def file(key, usual)
          path = @parameters[key] || File.join(Dir.home, ".postgresql", usual)
          path if File.exist?(path)
        end

        def verify_files
          if VERIFYING.include?(mode) && File.exist?(File.join(Dir.home, ".postgresql", "root.crl"))
            @parameters.invalid!(:sslcrl,
                                 "is found as ~/.postgresql/root.crl, which a worker's connection cannot read: remove it")
          end
          return unless mode == "verify-full" && @parameters[:hostaddr] && @parameters[:host]

          @parameters.invalid!(:hostaddr, "cannot be verified by the name of the host on a worker's connection: leave one out")
        end
      end
    end
  end
end
