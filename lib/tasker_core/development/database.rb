# frozen_string_literal: true

require "active_record"
require "pg"

module TaskerCore
  module Development
    # Creates databases with the gem's tables and functions, for demo, tests, bench and `tasker run`.
    #
    # @api private
    module Database
      MIGRATIONS = File.expand_path("../../../db/migrate", __dir__)

      module_function

      # Yields the URL of a server: DATABASE_URL, or a private server that stops after the block.
      # @yieldparam url [String]
      def with_server(**settings, &block)
        return yield ENV["DATABASE_URL"] if ENV["DATABASE_URL"].to_s != ""

        PrivatePostgres.run(**settings) { |server| block.call(server.url) }
      end

      # Creates a database and drops it after the block.
      # @yieldparam url [String]
      def temporary(url, name)
        yield create(url, name)
      ensure
        ActiveRecord::Base.connection_handler.clear_all_connections!(:all)
        administer(url) do |connection|
          connection.exec("drop database if exists #{connection.quote_ident(name)} with (force)")
        end
      end

      # Drops and creates a database on the server of the URL.
      # @return [String] its URL
      def create(url, name)
        administer(url) do |connection|
          connection.exec("drop database if exists #{connection.quote_ident(name)} with (force)")
          connection.exec("create database #{connection.quote_ident(name)}")
        end
        sibling(url, name)
      end

      # Connects to the server of the URL for the block.
      # @param url [String]
      # @yieldparam connection [PG::Connection]
      # @return [Object] what the block returns
      def administer(url)
        connection = PG.connect(url)
        connection.exec("set client_min_messages = warning")
        yield connection
      ensure
        connection&.close
      end

      # @return [String] the URL with another database
      def sibling(url, name) = url.sub(%r{\A(\w+://[^/?]*)[^?]*}) { "#{Regexp.last_match(1)}/#{name}" }

      # Connects Active Record and installs the gem's current tables and functions.
      def prepare(url)
        ActiveRecord::Base.establish_connection(url)
        ActiveRecord::Migration.verbose = false
        ActiveRecord::MigrationContext.new(MIGRATIONS).migrate
        ApplicationRecord.on_connection { |connection| Postgres::Functions.install!(connection) }
      end
    end
  end
end
