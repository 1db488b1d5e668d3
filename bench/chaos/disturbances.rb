# frozen_string_literal: true

module Chaos
  # The faults, with their workers and times: seconds on the clock of the effects.
  class Disturbances
    # pids: nil for every worker. to: nil while it lasts.
    Entry = Struct.new(:kind, :from, :to, :pids, keyword_init: true) do
      # @param tail [Float] seconds for which it has consequences after its end
      def touches?(pid, since, till, tail)
        from <= till && (to.nil? || to + tail >= since) && (pids.nil? || pids.include?(pid))
      end
    end

    # Until workers reconnect and detect silent connections: timeouts of statements and processes.
    TAIL = 6
    private_constant :TAIL

    def initialize
      @entries = []
    end

    # @param pids [Array<Integer>, nil]
    # @return [Entry] set its `to` later if it lasts
    def note(kind, from: Effects.now, to: from, pids: nil)
      Entry.new(kind: kind, from: from, to: to, pids: pids).tap { |entry| @entries << entry }
    end

    # @return [Boolean] whether the database's clock jumped in that time
    def jump?(since, till) = @entries.any? { |entry| entry.kind == :jump && entry.touches?(nil, since, till, 1) }

    # @return [Array<Entry>] times in which a host was cut off for longer than `seconds`, without another fault that
    #   concerned all workers
    def undisturbed_cuts(seconds)
      @entries.select do |cut|
        cut.kind == :cut_off && cut.to && cut.to - cut.from > seconds && @entries.none? do |other|
          other.pids.nil? && other.touches?(nil, cut.from, cut.to, 0)
        end
      end
    end

    # @return [Boolean] whether another fault may have separated this worker from the database in that time
    def touch?(pid, since, till)
      @entries.any? { |entry| entry.kind != :jump && entry.touches?(pid, since, till, TAIL) }
    end
  end
end
