# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether the application's database answers, and is one that tasker_core can use.
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

        error("PostgreSQL is #{@server['version']}, and tasker_core needs #{OLDEST} or later", "upgrade the server")
      rescue ConfigurationError => e
        error(e.message, "give the application, or tasker_core alone, a PostgreSQL database in config/database.yml")
      rescue DatabaseError, ActiveRecord::ActiveRecordError => e
        error(e.message.squish, "see that the server runs, and that config/database.yml (or DATABASE_URL) names it rightly")
      end

      def ok_message = "the database #{@server['name']} answers (PostgreSQL #{@server['version']})"
    end
  end
end
