# frozen_string_literal: true

require "pg"

module TaskerCore
  module Postgres
    # @api private
    module Address
      # A database's configuration as libpq reads it under Active Record: given values first, then the service file,
      # environment variables, and compiled-in defaults. libpq itself provides the names of its keys and variables.
      class Parameters
        USED = %i[
          service servicefile passfile user password dbname host hostaddr port connect_timeout options application_name
          fallback_application_name target_session_attrs load_balance_hosts sslmode sslrootcert sslcert sslkey
        ].freeze
        # Not used, and not needed: a worker always sends UTF-8, which the server converts; it detects dead connections
        # itself (`database.statement_timeout`); it speaks the oldest protocol version.
        WITHOUT_CONSEQUENCE = %i[
          client_encoding keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout
          max_protocol_version authtype tty
        ].freeze
        # Values that a worker's connection implements anyway.
        DONE_ANYWAY = { gssencmode: %w[disable prefer], channel_binding: %w[disable prefer],
                        min_protocol_version: %w[3.0] }.freeze
        ATTRIBUTES = %w[any read-write read-only primary standby prefer-standby].freeze
        private_constant :USED, :WITHOUT_CONSEQUENCE, :DONE_ANYWAY, :ATTRIBUTES

        # @param configuration [Hash{Symbol => Object}] with the keys of config/database.yml
        def initialize(configuration)
          @defaults = PG::Connection.conndefaults.to_h { |row| [row[:keyword].to_sym, row] }
          @given = given(configuration)
          @service = service
          @tls = Tls.new(self)
        end

        # @return [Hash] for `ext/orchestrator/src/database/address.rs`
        # @raise [ConfigurationError] naming the key
        def to_h
          verify
          {
            hosts: hosts, load_balance_hosts: one_of(:load_balance_hosts, %w[disable random]) == "random",
            target_session_attrs: one_of(:target_session_attrs, ATTRIBUTES), connect_timeout: connect_timeout,
            user: self[:user], database: self[:dbname] || self[:user],
            application_name: self[:application_name] || self[:fallback_application_name], options: options, **@tls.to_h
          }.compact
        end

        # @return [String, nil] the effective value; never empty
        def [](key) = (@given[key] || @service[key] || @defaults.dig(key, :val)).presence

        # @return [Array<Hash{Symbol => Object}>] host (nil: this machine's socket), port and password of each server
        def hosts
          names, addresses, ports = %i[host hostaddr port].map { |key| list(key) }
          count = [names.size, addresses.size, 1].max
          unless [names, addresses].all? { |some| [0, count].include?(some.size) } && [0, 1, count].include?(ports.size)
            invalid!(:port, "must have one value, or one for each host")
          end

          Array.new(count) { |number| host(names[number], addresses[number], ports[number] || ports.first) }
        end

        # @raise [ConfigurationError]
        def invalid!(key, message)
          raise ConfigurationError.new("workers cannot be started: #{key} (from config/database.yml, DATABASE_URL, a " \
                                       "service file or the environment#{variable(key)}) #{message}")
        end

        private

        def variable(key) = @defaults.dig(key, :envvar)&.then { |name| " as #{name}" }

        # Maps the names of Active Record's adapter to libpq's.
        def given(configuration)
          named = configuration.compact
          named[:user] = named.delete(:username) if named[:username]
          named[:dbname] = named.delete(:database) if named[:database]
          parse(named.slice(*@defaults.keys, :requiressl))
        end

        def parse(named)
          PG::Connection.conninfo_parse(PG::Connection.connect_hash_to_string(named.transform_values(&:to_s)))
                        .to_h { |row| [row[:keyword].to_sym, row[:val]] }.compact
        rescue PG::Error # its message may contain the value
          raise ConfigurationError.new("workers cannot be started: libpq cannot parse the database's address; check " \
                                       "config/database.yml and DATABASE_URL")
        end

        def service
          name = @given[:service].presence
          return {} unless name # the defaults include the service of PGSERVICE

          file = ServiceFile.find(name, @given[:servicefile].presence)
          file ? file.values.slice(*@defaults.keys) : invalid!(:service, "names a service that no service file defines")
        rescue ServiceFile::Unreadable => e
          invalid!(:service, e.message)
        end

        def verify
          (@defaults.keys - USED - WITHOUT_CONSEQUENCE - Tls::KEYS).each do |key|
            value = self[key]
            next if value.nil? || value == @defaults.dig(key, :compiled) || DONE_ANYWAY[key]&.include?(value)

            invalid!(key,
                     "is supported by Active Record, but not by workers' connections: remove it or change its value")
          end
          @tls.verify
        end

        def list(key) = self[key].to_s.split(",", -1)

        def host(name, address, port)
          name, address, port = [name, address, port].map(&:presence)
          number = Integer(port || "5432", 10, exception: false)
          invalid!(:port, "must be a number between 1 and 65535") unless number&.between?(1, 65_535)
          invalid!(:host, "is an abstract socket, which a worker cannot use") if name.to_s.start_with?("@")

          password = self[:password] || stored_password(name || address, number)
          { host: address || name, port: number, password: password }.compact
        end

        def stored_password(host, port)
          file = PasswordFile.new(self[:passfile] || File.join(Dir.home, ".pgpass"))
          file.password(host, port, self[:dbname] || self[:user], self[:user])
        end

        def connect_timeout
          value = self[:connect_timeout] or return
          number = Integer(value.strip, 10, exception: false)
          number ? [number, 0].max : invalid!(:connect_timeout, "must be a number of seconds")
        end

        # @return [Array<Array(String, String)>] settings that the server applies at the start of a session
        def options
          text = self[:options] or return
          if ENV["PGOPTIONS"].present? && ENV["PGOPTIONS"] != text
            invalid!(:options, "is set twice with different values: set it once")
          end
          Options.new(text).settings || invalid!(:options, "must be settings (-c name=value) for a worker's connection")
        end

        def one_of(key, values)
          value = self[key] || values.first
          values.include?(value) ? value : invalid!(key, "must be one of #{values.join(', ')}")
        end
      end
    end
  end
end
