# frozen_string_literal: true

module Chaos
  # What was done to which workers, and when: seconds on the clock of the effects.
  class Disturbances
    # pids: nil for every worker. to: nil as long as it lasts.
    Entry = Struct.new(:kind, :from, :to, :pids, keyword_init: true) do
      # @param tail [Float] seconds for which it still has consequences once it is over
      def touches?(pid, since, till, tail)
        from <= till && (to.nil? || to + tail >= since) && (pids.nil? || pids.include?(pid))
      end
    end

    # Until connections are made again, and a silence is noticed: time-outs of statements and processes.
    TAIL = 6
    private_constant :TAIL

    def initialize
      @entries = []
    end

    # @param pids [Array<Integer>, nil]
    # @return [Entry] whose `to` is set later where it lasts
    def note(kind, from: Effects.now, to: from, pids: nil)
      Entry.new(kind: kind, from: from, to: to, pids: pids).tap { |entry| @entries << entry }
    end

    # @return [Boolean] whether the database's clock leapt in that time
    def leap?(since, till) = @entries.any? { |entry| entry.kind == :leap && entry.touches?(nil, since, till, 1) }

    # @return [Boolean] whether anything else may have parted that worker from the database in that time
    def touch?(pid, since, till) = @entries.any? { |entry| entry.kind != :leap && entry.touches?(pid, since, till, TAIL) }
  end
end
