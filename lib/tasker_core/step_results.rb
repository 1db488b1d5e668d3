# frozen_string_literal: true

module TaskerCore
  # Results of the steps before one. Those of its parents are at hand unless they were too long to come with the claim; the
  # others are read when they are asked for.
  class StepResults
    # Of results that were read, so many bytes are kept for the next time.
    KEPT_BYTES = 4 * 1024 * 1024
    # For a step with nothing before it but its parents.
    NONE = ->(_names, _after) { { "results" => {}, "after" => nil, "names" => [] } }

    # @param at_hand [Hash{String => Hash}]
    # @param step [String] whose view this is
    # @param deferred [Array<String>] names of parents whose results are not at hand
    # @param ancestors [#call] takes names (nil: all) and the position after which to continue (nil: the beginning);
    #   returns a Hash: "results" by name, as many as fit into one answer; "after", the position to continue after, or nil;
    #   "names" of all steps before this one, if it began at the beginning; "bytes", its length, if it is known
    def initialize(at_hand, step:, ancestors:, deferred: [])
      @at_hand = at_hand
      @step = step
      @deferred = deferred
      @ancestors = ancestors
      @kept = {}
      @kept_bytes = 0
    end

    # @param name [String, Symbol] of a step before this one
    # @return [Hash{String => Object}]
    # @raise [UnknownStepError] when it is not before this one
    # @raise [PermanentError] when the database cannot read it
    # @raise [RetryableError] when the database cannot be asked
    def [](name)
      name = name.to_s
      @at_hand.fetch(name) { @kept.fetch(name) { read(name) } }
    end
    alias fetch []

    # @return [Object, nil] something inside the result of a step
    def dig(name, *keys) = keys.empty? ? self[name] : self[name]&.dig(*keys)

    def key?(name) = @at_hand.key?(name.to_s) || @deferred.include?(name.to_s) || names.include?(name.to_s)

    # All at once, however long they are together: where they may be many, ask for one after the other.
    # @return [Hash{String => Hash}] of every step before this one
    def to_h
      all = {}
      after = nil
      loop do
        answer = @ancestors.call(nil, after)
        all.update(answer.fetch("results"))
        after = answer["after"] or break
      end
      all.merge(@at_hand)
    end

    # @return [Array<String>] of every step before this one
    def names = @names ||= @ancestors.call([], nil).fetch("names")

    # @return [Integer] how many steps are before this one
    def size = names.size

    # Without the results: they may be long, and do not belong into an error's message.
    def inspect = "#<#{self.class.name} of the steps before #{@step}>"

    private

    def read(name)
      answer = @ancestors.call([name], nil)
      @names ||= answer["names"]
      results = answer.fetch("results")
      result = results.fetch(name) { raise UnknownStepError.of(name, names, "is not before step #{@step}") }
      keep(name, result, answer["bytes"].to_i)
    end

    def keep(name, result, bytes)
      if @kept_bytes + bytes > KEPT_BYTES
        @kept = {}
        @kept_bytes = 0
      end
      @kept_bytes += bytes
      @kept[name] = result
    end
  end
end
