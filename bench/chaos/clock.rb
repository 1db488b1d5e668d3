# frozen_string_literal: true

module Chaos
  # The database's clock. It jumps for all sessions at once, like the clock of a server that an operator sets.
  class Clock
    NOW = "clock_timestamp()"
    private_constant :NOW

    # @param database [String] its URL
    def initialize(database)
      @database = database
      @definition = run("select pg_get_functiondef('tasker_core_v1.current_time()'::regprocedure)").getvalue(0, 0)
      return if @definition.include?(NOW)

      raise ArgumentError.new("current_time does not call #{NOW}: the clock cannot be moved")
    end

    # A session's own tasker_core.clock_offset is added as before.
    # @param seconds [Float] the offset from the real time from now on
    def jump(seconds) = run(@definition.gsub(NOW, "(#{NOW} + interval '#{seconds} seconds')"))

    # Sets it to the real time.
    def heal = run(@definition)

    private

    def run(sql)
      connection = PG.connect(@database)
      connection.exec(sql)
    ensure
      connection&.close
    end
  end
end
