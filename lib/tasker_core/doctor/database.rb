# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether the application's database is reachable and supported.
    #
    # @api private
    class Database < Check
      OLDEST = 13
      private_constant :OLDEST

      def self.needs = []

      private

      def issues
        Postgres::Address.current
        @server = rows("select current_database() as name, current_setting('server_version') as version, " \
                       "current_setting('server_version_num')::integer / 10000 as major").first
        return if @server["major"] >= OLDEST

        error("the server is PostgreSQL #{@server['version']}, but tasker_core needs #{OLDEST} or later",
              "upgrade the server")
      rescue ConfigurationError => e
        error(e.message,
              "configure a PostgreSQL database in config/database.yml, for the application or for tasker_core alone")
      rescue DatabaseError, ActiveRecord::ActiveRecordError => e
        error(e.message.squish,
              "check that the server runs, and that config/database.yml (or DATABASE_URL) has its address")
      end

      def ok_message = "the database #{@server['name']} is reachable (PostgreSQL #{@server['version']})"
    end
  end
end
